"""Dates and times as Debezium's adaptive mode writes them, from PostgreSQL's ISO text under TimeZone UTC.

Calendar arithmetic is proleptic Gregorian; 1 BC is year 0. A precision of 3 or less counts milliseconds, else
microseconds.
"""

from __future__ import annotations

import re
from datetime import date as _date

_EPOCH = _date(1970, 1, 1).toordinal()
_DAY_US = 86_400_000_000
_DAYS_PER_MONTH = 365.25 / 12

DATE_INFINITY = {"infinity": "-2147472692", "-infinity": "-2147472691"}
TIMESTAMP_INFINITY = {"infinity": 9223372036825200000, "-infinity": -9223372036832400000}
_ZONED_INFINITY = {"infinity": '"infinity"', "-infinity": '"-infinity"'}

# Length of `YYYY-MM-DD HH:MM:SS[.ffffff]+00` -> what completes six fraction digits.
_PAD_SIX = {22: '.000000Z"', 24: '00000Z"', 25: '0000Z"', 26: '000Z"', 27: '00Z"', 28: '0Z"', 29: 'Z"'}

_INTERVAL_UNIT = re.compile(r"([+-]?\d+) (year|mon|day)s?")
_INTERVAL_CLOCK = re.compile(r"([+-]?)(\d+):(\d+):(\d+(?:\.\d+)?)\Z")


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
    return DATE_INFINITY.get(text) or str(_day_number(text))


def _clock(text: str) -> int:
    seconds, _, fraction = text[6:].partition(".")
    return (int(text[:2]) * 3600 + int(text[3:5]) * 60 + int(seconds)) * 1_000_000 + int(fraction.ljust(6, "0"))


def time_us(text: str) -> str:
    """Microseconds of the day; 24:00:00 is 86,400,000,000."""
    return str(_clock(text))


def time_ms(text: str) -> str:
    """Milliseconds of the day."""
    return str(_clock(text) // 1000)


def _timestamp(text: str) -> int:
    if text in TIMESTAMP_INFINITY:
        return TIMESTAMP_INFINITY[text]
    day, _, clock = text.partition(" ")
    if clock.endswith(" BC"):
        day, clock = f"{day} BC", clock[:-3]
    return _day_number(day) * _DAY_US + _clock(clock)


def timestamp_us(text: str) -> str:
    """Microseconds since the epoch."""
    return str(_timestamp(text))


def timestamp_ms(text: str) -> str:
    """Milliseconds since the epoch, rounded down."""
    return str(_timestamp(text) // 1000)


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
    year, rest = day[: len(day) - 6], day[-6:]
    if bc:
        number = 1 - int(year)
        year = f"-{-number:04d}" if number else "0000"
    elif len(year) > 4:
        year = f"+{year}"
    point = "." if precision else ""
    return f'"{year}{rest}T{clock}{point}{fraction.ljust(precision, "0")}Z"'


def zoned_time(text: str) -> str:
    """`timetz` moved to UTC: seconds always, fraction without trailing zeros."""
    at = max(text.rfind("+"), text.rfind("-"))
    hours, minutes, seconds = [*map(int, text[at + 1 :].split(":")), 0, 0][:3]
    offset = (hours * 3600 + minutes * 60 + seconds) * (1_000_000 if text[at] == "+" else -1_000_000)
    us = _clock(text[:at])
    if us != _DAY_US or offset:
        us = (us - offset) % _DAY_US
    whole, fraction = divmod(us, 1_000_000)
    tail = f".{fraction:06d}".rstrip("0").rstrip(".")
    return f'"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}{tail}Z"'


def interval(text: str) -> str:
    """Microseconds; a month is a twelfth of 365.25 days. Input in IntervalStyle `postgres`.

    The arithmetic is in doubles and in Java's order, so that the last digits agree. Raises ValueError for infinity.
    """
    parts = {"year": 0, "mon": 0, "day": 0}
    end = 0
    for match in _INTERVAL_UNIT.finditer(text):
        parts[match[2]] = int(match[1])
        end = match.end()
    hours = minutes = 0
    seconds = 0.0
    if clock := _INTERVAL_CLOCK.match(text[end:].lstrip()):
        sign = -1 if clock[1] == "-" else 1
        hours, minutes, seconds = sign * int(clock[2]), sign * int(clock[3]), sign * float(clock[4])
    elif text[end:].strip():
        raise ValueError("not an interval in style postgres")
    days = (parts["year"] * 12 + parts["mon"]) * _DAYS_PER_MONTH + parts["day"]
    return str(int((((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1e6))
