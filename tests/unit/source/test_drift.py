"""Tables along the stream: which ones are meant, and what happens when they change."""

from __future__ import annotations

import msgspec
import pytest

from deltaforge.envelopes.base import make_encoder, spec_for
from deltaforge.model import Column, Lsn, PgType, Relation, TransactionPart
from deltaforge.source.drift import Catalog, SchemaDrift
from tests.support import pgoutput_bytes as wire

ID = Column("id", PgType(23, "int4"), -1, True, True)
ORDERS = Relation(1, "public", "orders", "d", (ID,), (0,))
OTHER = Relation(2, "public", "other", "d", (ID,), (0,))


def test_a_published_table_that_is_not_configured_gives_no_records_but_keeps_its_index() -> None:
    """Guards against rows of tables nobody asked for, and against positions that depend on the table list."""
    catalog = Catalog(["public.orders"])
    relations = (catalog.judged(ORDERS), catalog.judged(OTHER))
    messages = [wire.relation(ORDERS), wire.relation(OTHER), wire.insert(2, ["1"]), wire.insert(1, ["2"])]
    messages += [wire.truncate([1, 2])]
    part = TransactionPart(7, Lsn(100), 0, 0, 3, messages, relations, Lsn(120), Lsn(0), 0)
    encoder = make_encoder(
        spec_for(topic="t", topic_prefix="p", database="d", skipped_operations=(), position_headers=True)
    )
    encoded = encoder.encode(part, 0, Lsn(0), 1)
    assert [key for key in encoded.keys if key] == [b'{"id":2,"__dbz__physicalTableIdentifier":"p.public.orders"}']
    assert [dict(headers or [])["deltaforge.index"] for headers in encoded.headers] == [b"1", b"2"]


def test_without_patterns_every_table_is_meant() -> None:
    """Guards against an empty list that means nothing."""
    assert Catalog().judged(OTHER).selected


@pytest.mark.fault("G10")
def test_a_changed_table_stops_the_stream_only_when_asked() -> None:
    """Guards against on_schema_drift: halt being ignored."""
    changed = msgspec.structs.replace(ORDERS, columns=(ID, Column("n", PgType(25, "text"), -1, False)))
    lenient, strict = Catalog(), Catalog(halt_on_drift=True)
    assert lenient.judged(ORDERS).selected
    assert lenient.judged(changed) == changed
    assert strict.judged(ORDERS) == strict.judged(ORDERS)
    with pytest.raises(SchemaDrift, match=r"public\.orders"):
        strict.judged(changed)
