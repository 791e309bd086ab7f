"""The compiled encoder and the Python one agree on every stream, well-formed or not."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaforge.envelopes.base import make_encoder, spec_for
from deltaforge.model import Lsn
from tests.fuzz import mutate
from tests.support import pgdraws
from tests.support import pgoutput_bytes as wire
from tests.support.agreement import Pair
from tests.support.fix_codecs import ROWS, extension
from tests.support.tables import column, part_of, table

RANDOMS = st.randoms(use_true_random=False)
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """All of this is about the compiled form."""
    extension(ROWS)


@given(RANDOMS)
@settings(max_examples=40)
def test_both_encoders_agree_on_any_stream(walk: Any, r: Random) -> None:
    """Guards against a value, a header, a counter or an error that depends on whether there was a C compiler."""
    Pair(pgdraws.encoder_settings(r), walk).run(pgdraws.stream(r, 2), r)


@given(SEEDS)
@settings(max_examples=100)
def test_both_encoders_agree_on_damaged_streams(walk: Any, seed: int) -> None:
    """Guards against bytes that make no sense and become records, or an error of another kind, in one form only."""
    # Not shrunk, but ten times as fast as drawing each number.
    r = Random(seed)
    pair = Pair(pgdraws.encoder_settings(r), walk)
    for _ in range(3):
        pair.run(mutate.stream(r), r)


@pytest.mark.parametrize("name", ["8314159265358", "18446744073709551557"])
def test_names_may_hold_the_numbers_that_templates_are_cut_at(name: str) -> None:
    """Guards against a database that cannot be encoded because of its name, and a name that is taken for a time."""
    odd = table(column("id", "int8"), name="4294967291")
    encoder = make_encoder(spec_for(topic=name, topic_prefix=name, database=name))
    (value,) = encoder.encode(part_of([wire.insert(odd.oid, ["1"])], [odd]), 0, Lsn(7), 1).values
    assert b'"name":"%b"' % name.encode() in (value or b"")
    assert b'"table":"4294967291","txId":738,' in (value or b"")


@pytest.mark.parametrize("commit_us", [2**63 - 1, 2**63 + 10**14, -(2**63)])
def test_a_clock_beyond_64_bits_is_no_crash(commit_us: int) -> None:
    """Guards against an overflow where a server's clock makes no sense."""
    part = part_of([wire.insert(16400, ["1"])], [table(column("id", "int8"))])
    part = msgspec.structs.replace(part, commit_time_us=commit_us)
    (value,) = make_encoder(spec_for(topic="t", topic_prefix="t", database="t")).encode(part, 0, Lsn(7), 1).values
    assert b'"ts_us":%d,' % commit_us in (value or b"")
