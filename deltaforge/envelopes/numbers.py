"""Numbers as Kafka Connect and Java print them, from PostgreSQL's text output.

Integers need no conversion. A Connect Decimal is the base64 of the unscaled value's smallest two's complement bytes.
Floats follow `Double.toString`: shortest digits (at least two when two are closer), decimal notation for
0.001 <= |x| < 10,000,000, else one digit before the point and `E`.
"""

from __future__ import annotations

import re
import struct
import sys
from binascii import b2a_base64
from contextlib import suppress
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SPECIAL = {"NaN": '"NaN"', "Infinity": '"Infinity"', "-Infinity": '"-Infinity"'}
_SPECIAL_NAME = {"NaN": '"NAN"', "Infinity": '"POSITIVE_INFINITY"', "-Infinity": '"NEGATIVE_INFINITY"'}
_PLAIN = re.compile(r"-?\d+(?:\.\d+)?\Z")
_LONG_REAL, _LONG_DOUBLE = 7, 16
"""Digits, before the point as well, from which on Java may know a shorter number than PostgreSQL."""


def base64_of_int(number: int) -> str:
    """Base64 of a signed big-endian integer in as few bytes as possible."""
    magnitude = number if number >= 0 else ~number
    data = number.to_bytes(magnitude.bit_length() // 8 + 1, "big", signed=True)
    return b2a_base64(data, newline=False).decode("latin-1")


def decimal(text: str) -> str:
    """`numeric(p,s)`: PostgreSQL prints s digits after the point, so without the point it is the unscaled value.

    Raises ValueError for NaN and the infinities, which Connect's Decimal cannot hold.
    """
    return f'"{base64_of_int(int(text.replace(".", "")))}"'


def exact(text: str, scale: int) -> str:
    """As `rescaled`, of a constant that needs no rounding. Raises ValueError for others."""
    digits = rescaled(plain(text), scale)
    if Decimal(digits) != Decimal(text):
        raise ValueError("a constant has more digits than its column")
    return digits


def rescaled(text: str, scale: int) -> str:
    """A decimal constant with exactly `scale` fraction digits, as a column of that scale would print it."""
    return format(Decimal(text).quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP, Context(prec=2000)), "f")


def variable_decimal(text: str) -> str:
    """`numeric` without precision: scale and unscaled value, trailing zeros stripped, scale never negative.

    Raises ValueError for NaN and the infinities.
    """
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    return f'{{"scale":{len(fraction)},"value":"{base64_of_int(_whole(whole + fraction))}"}}'


def _whole(text: str) -> int:
    # Python reads no int of more digits from text, PostgreSQL writes up to 147,455.
    return int(text) if len(text) <= sys.int_info.default_max_str_digits else int(Decimal(text))


def decimal_string(text: str) -> str:
    """`numeric` with decimal.handling.mode=string: all digits that PostgreSQL prints. Raises ValueError."""
    return _SPECIAL_NAME.get(text) or f'"{plain(text)}"'


def decimal_double(text: str) -> str:
    """`numeric` with decimal.handling.mode=double: the nearest double. Raises ValueError."""
    if text in _SPECIAL:
        return _SPECIAL[text]
    shortest = repr(float(plain(text)))
    return double(shortest.replace("inf", "Infinity"))


def plain(text: str) -> str:
    """A number in digits. Raises ValueError for anything else."""
    if not _PLAIN.match(text):
        raise ValueError("not a decimal number")
    return text


def double(text: str) -> str:
    """`double precision`."""
    return _SPECIAL.get(text) or _java(text, float)


def real(text: str) -> str:
    """`real`."""
    return _SPECIAL.get(text) or _java(text, _nearest_float32)


def _nearest_float32(text: str) -> float:
    value: float = struct.unpack("f", struct.pack("f", float(text)))[0]
    return value


def _java(text: str, exact: Callable[[str], float]) -> str:
    sign, digits, exponent = _parsed(text)
    if digits == (0,):
        return "-0.0" if sign else "0.0"
    long = _LONG_REAL if exact is _nearest_float32 else _LONG_DOUBLE
    if len(digits) >= long and len(digits) + exponent >= long:
        _, digits, exponent = _parsed(_shortest(text, len(digits), exact))
    if len(digits) == 1:
        # Java prefers the closest two-digit decimal over the shortest one.
        _, digits, exponent = _parsed(f"{exact(text):.1e}")
    body = "".join(map(str, digits))
    point = len(body) + exponent
    if -2 <= point <= 7:
        whole, fraction = _split(body, point)
        shown = f"{whole}.{fraction}"
    else:
        shown = f"{body[0]}.{body[1:] or '0'}E{point - 1}"
    return f"-{shown}" if sign else shown


def _shortest(text: str, count: int, exact: Callable[[str], float]) -> str:
    """The same float in fewer than `count` digits if there are any, else `text`.

    PostgreSQL never prints the number right between two floats, Java does when it is read as the float to be printed:
    2.0E23, not 1.9999999999999998E23.
    """
    value = exact(text)
    for places in range(count - 1):
        shorter = f"{value:.{places}e}"
        # Beyond the greatest float.
        with suppress(OverflowError):
            if exact(shorter) == value:
                return shorter
    return text


def _parsed(text: str) -> tuple[int, tuple[int, ...], int]:
    """Sign, digits without trailing zeros, and exponent. Raises ValueError for what is no finite number."""
    sign, digits, exponent = Decimal(text).normalize().as_tuple()
    if not isinstance(exponent, int):
        raise ValueError("not a number as PostgreSQL prints it")
    return sign, digits, exponent


def _split(body: str, point: int) -> tuple[str, str]:
    if point <= 0:
        return "0", "0" * -point + body
    return body[:point].ljust(point, "0"), body[point:] or "0"
