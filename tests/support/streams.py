"""Random but legal replication streams, as chunks, for properties of the stages that follow the reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from hypothesis import strategies as st

from deltaforge.model import Column, PgType, Relation, WalChunk
from tests.support import pgoutput_bytes as wire

if TYPE_CHECKING:
    from collections.abc import Sequence

TABLE = Relation(16384, "public", "t", "d", (Column("id", PgType(23, "int4"), -1, True, True),), (0,))
EVENTS = frozenset(b"IUDTM")


class Planned(msgspec.Struct, frozen=True):
    """One transaction, or one of the small things between transactions."""

    kind: str
    """tx, message or keepalive."""
    events: int
    lsn: int
    end: int


@st.composite
def plans(draw: st.DrawFn) -> list[Planned]:
    """A stream of transactions, logical messages and keepalives in WAL order."""
    out, lsn = [], 1000
    kinds = st.sampled_from(["tx", "tx", "tx", "message", "keepalive"])
    for kind, events in draw(st.lists(st.tuples(kinds, st.integers(0, 9)), max_size=14)):
        lsn += 100
        out.append(Planned(kind, events if kind == "tx" else int(kind == "message"), lsn, lsn + 20))
    return out


def messages(plan: Sequence[Planned]) -> list[bytes]:
    """The CopyData payloads of a plan."""
    out: list[bytes] = []
    for number, step in enumerate(plan):
        if step.kind == "keepalive":
            out.append(wire.keepalive(step.lsn))
        elif step.kind == "message":
            out.append(wire.message("p", b"content", step.lsn, transactional=False))
        else:
            out.append(wire.begin(step.lsn, xid=700 + number))
            if step.events:
                out.append(wire.relation(TABLE))
            out += [wire.insert(TABLE.oid, [str(n)], step.lsn - 50 + n) for n in range(step.events)]
            out.append(wire.commit(step.lsn, step.end))
    return out


def chunked(payloads: Sequence[bytes], sizes: Sequence[int], epoch: int = 1) -> list[WalChunk]:
    """Cut a stream into chunks of these sizes, over and over."""
    out, at, turn = [], 0, 0
    while at < len(payloads):
        size = sizes[turn % len(sizes)] if sizes else len(payloads)
        some = list(payloads[at : at + size])
        relations = (TABLE,) * sum(m[0] == 0x77 and m[25:26] == b"R" for m in some)
        out.append(WalChunk(epoch, at, at + len(some), some, relations, sum(map(len, some))))
        at, turn = at + len(some), turn + 1
    return out


sizes = st.lists(st.integers(1, 7), min_size=1, max_size=5)
