"""Dates and times in parts, where no recording shows them: damaged text, and bounds that Debezium stops at."""

from __future__ import annotations

import json

import pytest

from deltaforge.envelopes.binary import placeholder_json
from deltaforge.envelopes.options import ValueOptions
from deltaforge.envelopes.rowcode import memo_of
from deltaforge.envelopes.values import rendering
from tests.support.tables import pg_type

PARTS = ValueOptions(time="structured")


def converted(kind: str, modifier: int, text: str) -> object:
    """The value as a reader of the JSON has it."""
    found = rendering(pg_type(kind), modifier, PARTS)
    assert found is not None
    return json.loads(found.convert(text))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("date", "2020-1-2"),
        ("date", "2020-01-02 AD"),
        ("date", "20-01-02"),
        ("date", "1_000-01-02"),
        ("time", "1:02:03"),
        ("time", "01:02:03.1234567"),
        ("timetz", "01:02:03"),
        ("timestamp", "2020-01-02T03:04:05"),
        ("timestamp", "2020-01-02 03:04:05+00"),
        ("timestamptz", "2020-01-02 03:04:05+02"),
        ("timestamptz", "2020-01-02 03:04:05"),
        ("interval", "infinity"),
        ("interval", "P1Y"),
        ("interval", ""),
    ],
)
def test_a_text_of_another_form_is_refused(kind: str, text: str) -> None:
    """Guards against parts that are silently those of another moment."""
    found = rendering(pg_type(kind), -1, PARTS)
    assert found is not None
    with pytest.raises(ValueError, match="not a date"):
        found.convert(text)


def test_an_interval_has_hours_that_debezium_stops_at() -> None:
    """Guards against a pipeline that stops at the longest interval."""
    value = converted("interval", -1, "2562047788:00:54.775807")
    assert value == {
        "years": 0, "months": 0, "days": 0, "hours": 2_562_047_788, "minutes": 0, "seconds": 54, "nanos": 775_807_000,
        "precision": 6,
    }  # fmt: skip


def test_an_array_keeps_the_day_that_debezium_misreads() -> None:
    """Guards against copying the calendar of the JDBC driver: the days of the row are right."""
    assert converted("date[]", -1, '{1500-01-01,"0044-03-15 BC"}') == [
        {"year": 1500, "month": 1, "day": 1, "specialValue": None},
        {"year": -43, "month": 3, "day": 15, "specialValue": None},
    ]


@pytest.mark.parametrize("kind", ["time", "timetz", "timestamp", "timestamptz", "interval"])
def test_columns_of_one_precision_share_a_converter(kind: str) -> None:
    """Guards against memory that grows with every table that is announced."""
    first, second = (rendering(pg_type(kind), 3, PARTS) for _ in range(2))
    assert first is not None
    assert second is not None
    assert memo_of(first.convert) is memo_of(second.convert)


@pytest.mark.parametrize(
    ("digits", "text"),
    [
        ("", ""),
        ("676f6e65", "gone"),
        ("00ff41", "\0\ufffdA"),
        ("eda080", "\ufffd"),
        ("edbf", "\ufffd"),
        ("edb0eda080", "\ufffd\ufffd"),
        ("f0808041", "\ufffd\ufffd\ufffdA"),
        ("f09f9880", "😀"),
    ],
)
def test_a_placeholder_of_bytes_is_the_text_that_java_reads(digits: str, text: str) -> None:
    """Guards against a placeholder that a consumer compares with another number of replacement characters."""
    written = placeholder_json(ValueOptions(placeholder=f"hex:{digits}"))
    assert json.loads(written.encode("latin-1")) == text
