"""Dates and times in every unit and in ISO 8601, from PostgreSQL's ISO text under TimeZone UTC.

Calendar arithmetic is proleptic Gregorian; 1 BC is year 0. Which form a column has is decided in modes.py.
All raise ValueError for other text.
"""

from __future__ import annotations

import re
from datetime import date as _date
from decimal import ROUND_DOWN, Decimal

_EPOCH = _date(1970, 1, 1).toordinal()
_DAY_US = 86_400_000_000
_DAYS_PER_MONTH = 365.25 / 12
_NANO = Decimal("1e-9")

_LONGEST, _SHORTEST = 2**63 - 1, -(2**63)

# What stands for infinity differs from unit to unit: in milliseconds the JDBC driver's two far moments, in finer units
# the ends of 64 bits, in days the two dates of these numbers.
_DATE_INFINITY = {"infinity": "2146033979", "-infinity": "-2147472691"}
_MS_INFINITY = {"infinity": "9223372036825200000", "-infinity": "-9223372036832400000"}
_FINE_INFINITY = {"infinity": str(_LONGEST), "-infinity": str(_SHORTEST)}
_ISO_DATE_INFINITY = {"infinity": '"+5877611-06-21Z"', "-infinity": '"-5877611-06-22Z"'}
_ISO_INFINITY = {"infinity": '"+292278994-08-16T23:00:00Z"', "-infinity": '"-292275055-05-16T23:00:00Z"'}
_ZONED_INFINITY = {"infinity": '"infinity"', "-infinity": '"-infinity"'}

# In arrays the driver makes its far moments of infinity, whose days do not fit 32 bits.
DATE_ARRAY_INFINITY = {"infinity": "-622191234", "-infinity": "-625821272"}
ISO_DATE_ARRAY_INFINITY = {"infinity": '"+292278994-08-16Z"', "-infinity": '"+292269055-12-02Z"'}

# Length of `YYYY-MM-DD HH:MM:SS[.ffffff]+00` -> what completes six fraction digits.
_PAD_SIX = {22: '.000000Z"', 24: '00000Z"', 25: '0000Z"', 26: '000Z"', 27: '00Z"', 28: '0Z"', 29: 'Z"'}

_INTERVAL = re.compile(
    r"(?:([+-]?\d+) years? ?)?(?:([+-]?\d+) mons? ?)?(?:([+-]?\d+) days? ?)?"
    r"(?:([+-]?)(\d+):(\d+):(\d+(?:\.\d+)?))?(?<=[^ ])\Z"
)


def _days(year: int, month: int, day: int) -> int:
    if 1 <= year <= 9999:
        return _date(year, month, day).toordinal() - _EPOCH
    # Four hundred years always have the same number of days.
    cycles = (year - 2000) // 400
    return _date(year - cycles * 400, month, day).toordinal() - _EPOCH + cycles * 146_097


def _day_number(text: str) -> int:
    bc = text.endswith(" BC")
    year, month, day = (text[:-3] if bc else text).rsplit("-", 2)
    return _days(1 - int(year) if bc else int(year), int(month), int(day))


def date(text: str) -> str:
    """Days since 1970-01-01."""
    return _DATE_INFINITY.get(text) or str(_day_number(text))


def _clock(text: str) -> int:
    seconds, _, fraction = text[6:].partition(".")
    return (int(text[:2]) * 3600 + int(text[3:5]) * 60 + int(seconds)) * 1_000_000 + int(fraction.ljust(6, "0"))


def time_us(text: str) -> str:
    """Microseconds of the day; 24:00:00 is 86,400,000,000."""
    return str(_clock(text))


def time_ms(text: str) -> str:
    """Milliseconds of the day."""
    return str(_clock(text) // 1000)


def milliseconds(text: str) -> str:
    """A time without what comes after its milliseconds."""
    return text[:12]


def time_ns(text: str) -> str:
    """Nanoseconds of the day."""
    return str(_clock(text) * 1000)


def _clock_text(us: int) -> str:
    """Seconds always, the fraction without trailing zeros."""
    whole, fraction = divmod(us, 1_000_000)
    tail = f".{fraction:06d}".rstrip("0").rstrip(".")
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}{tail}"


def iso_time(text: str) -> str:
    """`"13:51:30.5Z"`; 24:00:00 is written as 00:00:00."""
    return f'"{_clock_text(_clock(text) % _DAY_US)}Z"'


def _timestamp(text: str) -> int:
    day, _, clock = text.partition(" ")
    if clock.endswith(" BC"):
        day, clock = f"{day} BC", clock[:-3]
    return _day_number(day) * _DAY_US + _clock(clock)


def timestamp_us(text: str) -> str:
    """Microseconds since the epoch."""
    return _FINE_INFINITY.get(text) or str(_timestamp(text))


def timestamp_ms(text: str) -> str:
    """Milliseconds since the epoch, rounded down."""
    return _MS_INFINITY.get(text) or str(_timestamp(text) // 1000)


def timestamp_ns(text: str) -> str:
    """Nanoseconds since the epoch; null for what 64 bits do not hold, as recorded."""
    if text in _FINE_INFINITY:
        return _FINE_INFINITY[text]
    us = _timestamp(text)
    # The last second before the shortest is given up, whatever its fraction.
    fits = us // 1_000_000 > _SHORTEST // 1_000_000_000 + 1 and us * 1000 <= _LONGEST
    return str(us * 1000) if fits else "null"


def _iso_day(day: str, *, bc: bool) -> str:
    """The day with ISO 8601's year: signed when it is before year 0 or after 9999."""
    year, rest = day[:-6], day[-6:]
    if bc:
        number = 1 - int(year)
        year = f"-{-number:04d}" if number else "0000"
    elif len(year) > 4:
        year = f"+{year}"
    return year + rest


def iso_date(text: str) -> str:
    """`"2017-09-15Z"`"""
    if text in _ISO_DATE_INFINITY:
        return _ISO_DATE_INFINITY[text]
    _day_number(text)
    return f'"{_iso_day(text.removesuffix(" BC"), bc=text.endswith(" BC"))}Z"'


def iso_timestamp(text: str) -> str:
    """`"2019-07-09T02:28:57.5Z"`: the fraction without trailing zeros."""
    if text in _ISO_INFINITY:
        return _ISO_INFINITY[text]
    us = _timestamp(text) % _DAY_US
    return f'"{_iso_day(text.partition(" ")[0], bc=text.endswith(" BC"))}T{_clock_text(us)}Z"'


def zoned_six(text: str) -> str:
    """`timestamptz` with six fraction digits: nearly all of them, hence its own quick path."""
    if text[-3:] == "+00" and text[10] == " ":
        return f'"{text[:10]}T{text[11:-3]}{_PAD_SIX[len(text)]}'
    return zoned(text, 6)


def zoned(text: str, precision: int) -> str:
    """`timestamptz(precision)` in UTC with exactly that many fraction digits.

    Raises ValueError when the session does not print UTC.
    """
    if text in _ZONED_INFINITY:
        return _ZONED_INFINITY[text]
    day, _, clock = text.partition(" ")
    bc = clock.endswith(" BC")
    if not (clock := clock.removesuffix(" BC")).endswith("+00"):
        raise ValueError("a timestamptz is not in UTC")
    clock, _, fraction = clock[:-3].partition(".")
    # No value of a column has more digits, but a default may.
    point = "." if precision or fraction else ""
    return f'"{_iso_day(day, bc=bc)}T{clock}{point}{fraction.ljust(precision, "0")}Z"'


def cut(text: str, digits: int) -> str:
    """A `timestamptz` with so many fraction digits at most, 0 = all. Raises ValueError for infinity."""
    if text in _ZONED_INFINITY:
        raise ValueError("infinity is no default")
    return re.sub(rf"(\.\d{{{digits}}})\d+", r"\1", text) if digits else text


def zoned_time(text: str) -> str:
    """`timetz` moved to UTC: seconds always, fraction without trailing zeros."""
    at = max(text.rfind("+"), text.rfind("-"))
    hours, minutes, seconds = [*map(int, text[at + 1 :].split(":")), 0, 0][:3]
    offset = (hours * 3600 + minutes * 60 + seconds) * (1_000_000 if text[at] == "+" else -1_000_000)
    us = _clock(text[:at])
    if us != _DAY_US or offset:
        us = (us - offset) % _DAY_US
    return f'"{_clock_text(us)}Z"'


def _interval_parts(text: str) -> tuple[int, int, int, int, int, str]:
    """Years, months, days, hours, minutes, and the seconds as text. Input in IntervalStyle `postgres`."""
    if not (match := _INTERVAL.match(text)):
        raise ValueError("not an interval in style postgres")
    years, months, days, sign, hours, minutes, seconds = match.groups()
    minus = "-" if sign == "-" else ""
    return (
        int(years or 0), int(months or 0), int(days or 0),
        int(minus + (hours or "0")), int(minus + (minutes or "0")), minus + (seconds or "0"),
    )  # fmt: skip


def _driver_seconds(text: str) -> float:
    """The double that the JDBC driver has: whole seconds and microseconds added, which is not always the nearest."""
    whole, _, fraction = text.partition(".")
    return float(whole) + int(fraction.ljust(6, "0")) / (-1e6 if whole[:1] == "-" else 1e6)


def interval(text: str) -> str:
    """Microseconds; a month is a twelfth of 365.25 days.

    The arithmetic is in doubles and in Java's order, so that the last digits agree, and ends where Java's long ends.
    """
    years, months, days, hours, minutes, seconds = _interval_parts(text)
    whole = (years * 12 + months) * _DAYS_PER_MONTH + days
    us = int((((whole * 24 + hours) * 60 + minutes) * 60 + _driver_seconds(seconds)) * 1e6)
    return str(min(max(us, _SHORTEST), _LONGEST))


def iso_interval(text: str) -> str:
    """`"P1Y2M3DT4H5M6.78S"`, with all components, each with its own sign."""
    years, months, days, hours, minutes, seconds = _interval_parts(text)
    value = Decimal(repr(_driver_seconds(seconds)))
    # Nine digits, the rest is cut off.
    shown = f"{value.quantize(_NANO, ROUND_DOWN):f}".rstrip("0").rstrip(".")
    return f'"P{years}Y{months}M{days}DT{hours}H{minutes}M{shown if value else 0}S"'
