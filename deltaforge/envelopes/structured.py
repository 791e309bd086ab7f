"""Dates, times and intervals as JSON objects of their parts (time.precision.mode=structured).

Rule 1: input and calendar are those of times.py; the parts are those of the text, and a `timetz` keeps its offset.
Rule 2: infinity has no parts but a `specialValue`. A `time` of 24:00:00 is null, as recorded; a `timetz` has hour 24.
Rule 3: `precision` is that of the column's type, also where fewer digits are written. Without a modifier it is 6.
Rule 4: there is one Rendering for each precision, so that one memo serves all columns of it.
"""

from __future__ import annotations

import re
from functools import cache, partial

from deltaforge.envelopes.renderings import Rendering, no_default

_TIME_OID, _TIMESTAMPTZ_OID = 1083, 1184
_DAY = r"(\d{4,})-(\d\d)-(\d\d)"
_CLOCK = r"(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?"
_DATE = re.compile(rf"{_DAY}( BC)?\Z")
_TIME = re.compile(rf"{_CLOCK}\Z")
_TIMETZ = re.compile(rf"{_CLOCK}([+-])(\d\d)(?::(\d\d))?(?::(\d\d))?\Z")
_TIMESTAMP = re.compile(rf"{_DAY} {_CLOCK}( BC)?\Z")
_TIMESTAMPTZ = re.compile(rf"{_DAY} {_CLOCK}\+00( BC)?\Z")
_INTERVAL = re.compile(
    r"(?:([+-]?\d+) years? ?)?(?:([+-]?\d+) mons? ?)?(?:([+-]?\d+) days? ?)?"
    r"(?:([+-]?)(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?)?(?<=[^ ])\Z"
)
_SPECIAL = {"infinity": '"POSITIVE_INFINITY"', "-infinity": '"NEGATIVE_INFINITY"'}
_NO_DAY = '"year":null,"month":null,"day":null'
_NO_CLOCK = '"hour":null,"minute":null,"second":null,"nanos":null'

# In arrays the driver's first moment stands for -infinity, read as one after the year 1.
_FIRST_IN_ARRAY = "292269055-12-02 23:00:00+00"


def _matched(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    if not (match := pattern.match(text)):
        raise ValueError("not a date, time or interval as PostgreSQL prints them")
    return match


def _day(year: str, month: str, day: str, bc: str | None) -> str:
    return f'"year":{1 - int(year) if bc else int(year)},"month":{int(month)},"day":{int(day)}'


def _nanos(fraction: str | None) -> int:
    return int(fraction.ljust(9, "0")) if fraction else 0


def _clock(hour: str, minute: str, second: str, fraction: str | None) -> str:
    return f'"hour":{int(hour)},"minute":{int(minute)},"second":{int(second)},"nanos":{_nanos(fraction)}'


def date(text: str) -> str:
    """This and the next raise ValueError for text of another form."""
    if text in _SPECIAL:
        return f'{{{_NO_DAY},"specialValue":{_SPECIAL[text]}}}'
    year, month, day, bc = _matched(_DATE, text).groups()
    return f'{{{_day(year, month, day, bc)},"specialValue":null}}'


def _time(text: str, precision: int) -> str:
    if text == "24:00:00":
        return "null"
    hour, minute, second, fraction = _matched(_TIME, text).groups()
    return f'{{{_clock(hour, minute, second, fraction)},"precision":{precision}}}'


def _timetz(text: str, precision: int) -> str:
    hour, minute, second, fraction, sign, hours, minutes, seconds = _matched(_TIMETZ, text).groups()
    offset = int(hours) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    clock = _clock(hour, minute, second, fraction)
    return f'{{{clock},"offsetSeconds":{-offset if sign == "-" else offset},"precision":{precision}}}'


def _timestamp(text: str, precision: int) -> str:
    if text in _SPECIAL:
        return f'{{{_NO_DAY},{_NO_CLOCK},"specialValue":{_SPECIAL[text]},"precision":{precision}}}'
    year, month, day, hour, minute, second, fraction, bc = _matched(_TIMESTAMP, text).groups()
    parts = f"{_day(year, month, day, bc)},{_clock(hour, minute, second, fraction)}"
    return f'{{{parts},"specialValue":null,"precision":{precision}}}'


def _timestamptz(text: str, precision: int, zone: str = '"Z"') -> str:
    if text in _SPECIAL:
        nowhere = '"offsetSeconds":null,"zoneId":null'
        return f'{{{_NO_DAY},{_NO_CLOCK},{nowhere},"specialValue":{_SPECIAL[text]},"precision":{precision}}}'
    year, month, day, hour, minute, second, fraction, bc = _matched(_TIMESTAMPTZ, text).groups()
    parts = f'{_day(year, month, day, bc)},{_clock(hour, minute, second, fraction)},"offsetSeconds":0,"zoneId":{zone}'
    return f'{{{parts},"specialValue":null,"precision":{precision}}}'


def _interval(text: str, precision: int) -> str:
    years, months, days, sign, hours, minutes, seconds, fraction = _matched(_INTERVAL, text).groups()
    factor = -1 if sign == "-" else 1
    return (
        f'{{"years":{int(years or 0)},"months":{int(months or 0)},"days":{int(days or 0)},'
        f'"hours":{factor * int(hours or 0)},"minutes":{factor * int(minutes or 0)},'
        f'"seconds":{factor * int(seconds or 0)},"nanos":{factor * _nanos(fraction)},"precision":{precision}}}'
    )


def _precision(modifier: int) -> int:
    return 6 if modifier == -1 else modifier


DATE = Rendering(date, date("1970-01-01"), "memo", printed=no_default)
"""`date`. A struct cannot be a schema default, here and below."""


@cache
def time(modifier: int) -> Rendering:
    """`time(p)`."""
    convert = partial(_time, precision=_precision(modifier))
    return Rendering(convert, convert("00:00:00"), "memo", printed=no_default)


@cache
def timetz(modifier: int) -> Rendering:
    """`timetz(p)`."""
    convert = partial(_timetz, precision=_precision(modifier))
    return Rendering(convert, convert("00:00:00+00"), printed=no_default)


@cache
def timestamp(modifier: int) -> Rendering:
    """`timestamp(p)`."""
    convert = partial(_timestamp, precision=_precision(modifier))
    return Rendering(convert, convert("1970-01-01 00:00:00"), printed=no_default)


@cache
def timestamptz(modifier: int) -> Rendering:
    """`timestamptz(p)`; the fallback has no zone, as recorded."""
    convert = partial(_timestamptz, precision=_precision(modifier))
    return Rendering(convert, convert("1970-01-01 00:00:00+00", zone="null"), printed=no_default)


@cache
def interval(modifier: int) -> Rendering:
    """`interval`; one without seconds (`year to month`) has what PostgreSQL keeps for no precision, 65535."""
    convert = partial(_interval, precision=6 if modifier == -1 else modifier & 0xFFFF)
    return Rendering(convert, convert("00:00:00"), printed=no_default)


def in_array(oid: int, modifier: int) -> dict[str, str]:
    """Elements of an array of this type that are not written as a column of it would be, as recorded."""
    if oid == _TIME_OID:
        return {"24:00:00": time(modifier).fallback}
    return {"-infinity": timestamptz(modifier).convert(_FIRST_IN_ARRAY)} if oid == _TIMESTAMPTZ_OID else {}
