"""Values of a key as they stand in the headers of a key change.

Headers do not go through the JSON converter but through Kafka Connect's simple one, which writes what looks like JSON
and differs in some types, also within arrays: decimals are numbers with all their digits, NaN and infinity have no
quotes, nor have the dates and times of `time.precision.mode=connect`, which are ISO text; in strings only quotes and
backslashes are escaped.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from deltaforge.envelopes import numbers, times
from deltaforge.envelopes.jsontext import quote
from deltaforge.envelopes.money import amount
from deltaforge.envelopes.values import array_convert, rendering

if TYPE_CHECKING:
    from collections.abc import Callable

    from deltaforge.envelopes.options import ValueOptions
    from deltaforge.envelopes.renderings import Rendering
    from deltaforge.model import PgType

_MONEY, _DAY_MS = 790, 86_400_000
_EPOCH = date(1970, 1, 1).toordinal()
_CYCLE_DAYS, _CYCLE_YEARS = 146_097, 400
_UNIT_MS: dict[Callable[[str], str], int] = {times.date: _DAY_MS, times.time_ms: 1, times.timestamp_ms: 1}
_FLOATS = (numbers.real, numbers.double, numbers.decimal_double)


def header_rendering(kind: PgType, modifier: int, written: Rendering, options: ValueOptions) -> Rendering:
    """How a column of this type, which the JSON converter writes as `written` says, becomes text in a header."""
    convert = _converter(kind, modifier, written, options)
    return written if convert is None else msgspec.structs.replace(written, convert=convert)


def _converter(kind: PgType, modifier: int, written: Rendering, options: ValueOptions) -> Callable[[str], str] | None:
    while kind.base is not None:
        modifier, kind = kind.base_modifier, kind.base
    if kind.element is not None and kind.element.base is None and (inner := rendering(kind.element, modifier, options)):
        convert = _converter(kind.element, modifier, inner, options)
        return convert and array_convert(kind.element, modifier, convert, options)
    if kind.oid == _MONEY and options.decimal == "precise":
        return lambda text: _decimal(numbers.rescaled(amount(text), options.money_digits))
    if options.time == "connect" and written.convert in _UNIT_MS:
        return lambda text: _moment(int(written.convert(text)) * _UNIT_MS[written.convert])
    if written.convert is numbers.decimal:
        return _decimal
    if written.convert in _FLOATS:
        return lambda text: written.convert(text).strip('"')
    return _string if written.convert is quote else None


def _decimal(text: str) -> str:
    # Java and Python write an exponent under the same conditions.
    return str(Decimal(text))


def _string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _moment(ms: int) -> str:
    """A moment by its value alone: a time of day when it is early, a day when it is midnight."""
    days, of_day = divmod(ms, _DAY_MS)
    seconds, millis = divmod(of_day, 1000)
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{millis:03d}Z"
    if ms < _DAY_MS:
        return clock
    # Four hundred years always have the same number of days.
    cycles, rest = divmod(days, _CYCLE_DAYS)
    day = date.fromordinal(_EPOCH + rest)
    shown = f"{day.year + cycles * _CYCLE_YEARS:04d}-{day.month:02d}-{day.day:02d}"
    return shown if of_day == 0 else f"{shown}T{clock}"
