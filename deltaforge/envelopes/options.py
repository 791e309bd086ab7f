"""Debezium's options that decide how a column's value is written, with Debezium's names, values and defaults."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

DecimalMode: TypeAlias = Literal["precise", "string", "double"]
TimeMode: TypeAlias = Literal[
    "adaptive", "adaptive_time_microseconds", "connect", "isostring", "microseconds", "nanoseconds", "structured"
]
IntervalMode: TypeAlias = Literal["numeric", "string"]
HstoreMode: TypeAlias = Literal["json", "map"]
BinaryMode: TypeAlias = Literal["bytes", "base64", "base64-url-safe", "hex"]


class ValueOptions(msgspec.Struct, frozen=True):
    """How values are written. Each field is the option of the same name, with dots for underscores."""

    decimal: DecimalMode = "precise"
    """decimal.handling.mode"""
    time: TimeMode = "adaptive"
    """time.precision.mode"""
    interval: IntervalMode = "numeric"
    """interval.handling.mode"""
    hstore: HstoreMode = "json"
    """hstore.handling.mode"""
    binary: BinaryMode = "bytes"
    """binary.handling.mode"""
    money_digits: int = 2
    """money.fraction.digits"""
    unknown: bool = False
    """include.unknown.datatypes: the text of columns of other types, as bytes in binary mode."""
    placeholder: str = "__debezium_unavailable_value"
    """unavailable.value.placeholder"""
    null_defaults: bool = True
    """replace.null.with.default of the converters: NULL in a column with a default is written as the default."""
