"""Values of a key as they stand in the headers of a key change.

Headers do not go through the JSON converter but through Kafka Connect's simple one, which writes what looks like JSON
and differs in some types: decimals are numbers with all their digits, the dates and times of
`time.precision.mode=connect` are ISO text without quotes, and in strings only quotes and backslashes are escaped.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from deltaforge.envelopes import numbers, times
from deltaforge.envelopes.jsontext import quote
from deltaforge.envelopes.money import amount

if TYPE_CHECKING:
    from collections.abc import Callable

    from deltaforge.envelopes.options import ValueOptions
    from deltaforge.envelopes.renderings import Rendering
    from deltaforge.model import PgType

_MONEY, _DAY_MS = 790, 86_400_000
_EPOCH = datetime(1970, 1, 1)
_UNIT_MS: dict[Callable[[str], str], int] = {times.date: _DAY_MS, times.time_ms: 1, times.timestamp_ms: 1}


def header_rendering(kind: PgType, rendering: Rendering, options: ValueOptions) -> Rendering:
    """How a column of this type, which the JSON converter writes as `rendering` says, becomes text in a header."""
    convert = _converter(kind, rendering, options)
    return rendering if convert is None else msgspec.structs.replace(rendering, convert=convert)


def _converter(kind: PgType, rendering: Rendering, options: ValueOptions) -> Callable[[str], str] | None:
    while kind.base is not None:
        kind = kind.base
    if kind.oid == _MONEY and options.decimal == "precise":
        return lambda text: _decimal(numbers.rescaled(amount(text), options.money_digits))
    if options.time == "connect" and rendering.convert in _UNIT_MS:
        return lambda text: _moment(int(rendering.convert(text)) * _UNIT_MS[rendering.convert])
    if rendering.convert is numbers.decimal:
        return _decimal
    return _string if rendering.convert is quote else None


def _decimal(text: str) -> str:
    # Java and Python write an exponent under the same conditions.
    return str(Decimal(text))


def _string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _moment(ms: int) -> str:
    """A moment by its value alone: a time of day when it is early, a day when it is midnight."""
    shown = (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")
    if ms < _DAY_MS:
        return f"{shown[11:]}Z"
    return shown[:10] if ms % _DAY_MS == 0 else f"{shown}Z"
