"""Types that an option writes in one of several forms: decimals, dates and times.

decimal.handling.mode, time.precision.mode and interval.handling.mode. Time with a time zone has one form in every mode
but `structured`, which decides about intervals as well.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from deltaforge.envelopes import numbers, structured, times
from deltaforge.envelopes.binary import placeholder_json
from deltaforge.envelopes.renderings import Rendering, no_default

if TYPE_CHECKING:
    from deltaforge.envelopes.options import ValueOptions


_DATE, _TIME, _TIMESTAMPTZ = 1082, 1083, 1184


def numeric(modifier: int, options: ValueOptions) -> Rendering:
    """`numeric(p,s)` and, with modifier -1, `numeric`."""
    scale = (modifier - 4) & 0x7FF if modifier != -1 else 0
    scale = scale if scale < 0x400 else 0
    printed = partial(numbers.exact, scale=scale) if modifier != -1 else numbers.plain
    if options.decimal == "string":
        zero = f'"{numbers.rescaled("0", scale)}"'
        unsent = placeholder_json(options)
        computed = zero if modifier != -1 else '"0.0"'
        return Rendering(numbers.decimal_string, zero, "memo", unsent, computed, printed)
    if options.decimal == "double":
        return Rendering(numbers.decimal_double, "0.0", "memo", computed="0.0", printed=printed)
    if modifier == -1:
        return Rendering(numbers.variable_decimal, '{"scale":0,"value":"AA=="}', "memo")
    return Rendering(numbers.decimal, '"AA=="', "memo", computed='"AA=="', printed=printed)


def _precise(modifier: int) -> bool:
    """Does the column keep more than milliseconds?"""
    return modifier == -1 or modifier > 3


def date(options: ValueOptions) -> Rendering:
    """`date`."""
    if options.time == "structured":
        return structured.DATE
    if options.time == "isostring":
        return Rendering(times.iso_date, '"1970-01-01Z"', "memo", computed='"1970-01-01Z"')
    return Rendering(times.date, "0", "memo", computed="0")


def time(modifier: int, options: ValueOptions) -> Rendering:
    """`time(p)`."""
    mode = options.time
    if mode == "structured":
        return structured.time(modifier)
    if mode == "isostring":
        return Rendering(times.iso_time, '"00:00:00Z"', "memo", computed='"00:00:00Z"')
    convert = times.time_us
    if mode == "nanoseconds":
        convert = times.time_ns
    elif mode == "connect" or (mode == "adaptive" and not _precise(modifier)):
        convert = times.time_ms
    return Rendering(convert, "0", "memo", computed="0")


def timestamp(modifier: int, options: ValueOptions) -> Rendering:
    """`timestamp(p)`."""
    mode = options.time
    if mode == "structured":
        return structured.timestamp(modifier)
    if mode == "isostring":
        epoch = '"1970-01-01T00:00:00Z"'
        return Rendering(times.iso_timestamp, epoch, computed=epoch)
    convert = times.timestamp_us
    if mode == "nanoseconds":
        convert = times.timestamp_ns
    elif mode == "connect" or (mode != "microseconds" and not _precise(modifier)):
        convert = times.timestamp_ms
    return Rendering(convert, "0", computed="0")


def timetz(modifier: int, options: ValueOptions) -> Rendering:
    """`timetz(p)`."""
    if options.time == "structured":
        return structured.timetz(modifier)
    return Rendering(times.zoned_time, '"00:00:00Z"', printed=no_default)


def timestamptz(modifier: int, options: ValueOptions) -> Rendering:
    """`timestamptz(p)`."""
    if options.time == "structured":
        return structured.timestamptz(modifier)
    precision = 6 if modifier == -1 else modifier
    convert = times.zoned_six if precision == 6 else partial(times.zoned, precision=precision)
    printed = partial(times.cut, digits=precision)
    return Rendering(convert, '"1970-01-01T00:00:00Z"', computed=convert("1970-01-01 00:00:00+00"), printed=printed)


def interval(modifier: int, options: ValueOptions) -> Rendering:
    """`interval`, with any fields and precision."""
    if options.time == "structured":
        return structured.interval(modifier)
    if options.interval == "string":
        zero = '"P0Y0M0DT0H0M0S"'
        return Rendering(times.iso_interval, zero, computed=zero)
    return Rendering(times.interval, "0", computed="0")


def array_ends(oid: int, modifier: int, options: ValueOptions) -> dict[str, str]:
    """Elements of an array of this type that are not written as a column of it would be, as recorded."""
    if options.time == "structured":
        return structured.in_array(oid, modifier)
    iso = options.time == "isostring"
    if oid == _DATE:
        return times.ISO_DATE_ARRAY_INFINITY if iso else times.DATE_ARRAY_INFINITY
    if oid == _TIME and not iso:
        return {"24:00:00": "0"}
    if oid == _TIMESTAMPTZ:
        digits = "0" * (6 if modifier == -1 else modifier)
        return {"-infinity": f'"+292269055-12-02T23:00:00{"." if digits else ""}{digits}Z"'}
    return {}
