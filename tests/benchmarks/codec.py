"""Prints what one row costs in the encoder: microseconds per row of the seven-column orders table.

Run: python -m tests.benchmarks.codec
"""

from __future__ import annotations

import time

from deltaforge.envelopes.base import make_encoder, spec_for
from deltaforge.model import Column, Lsn, PgType, Relation, TransactionPart
from tests.support import pgoutput_bytes as wire

ROWS = 100
PARTS = 1000

_INT8, _INT4, _TEXT = PgType(20, "int8"), PgType(23, "int4"), PgType(25, "text")
_NUMERIC, _TIMESTAMPTZ = PgType(1700, "numeric"), PgType(1184, "timestamptz")
ORDERS = Relation(
    16384, "public", "orders", "d",
    (
        Column("id", _INT8, -1, True, True),
        Column("customer_id", _INT4, -1, False, True),
        Column("status", _TEXT, -1, False, True, "'new'::text"),
        Column("total", _NUMERIC, (12 << 16 | 2) + 4, False, True),
        Column("note", _TEXT, -1, False),
        Column("created_at", _TIMESTAMPTZ, -1, False, True),
        Column("updated_at", _TIMESTAMPTZ, -1, False),
    ),
    (0,),
)  # fmt: skip


def part(number: int, note: str | None, amounts: int) -> TransactionPart:
    """One transaction of ROWS inserts."""
    lsn = 0x1600000000 + number * 100_000
    rows = [
        wire.insert(
            ORDERS.oid,
            [
                str(number * ROWS + i), str(i * 7919 % 10_000), "pending",
                f"{(number * ROWS + i) * 37 % amounts / 100:.2f}",
                note, f"2026-11-23 09:{i % 60:02d}:01.{123456 + number}+00", "2026-11-23 09:00:01.5+00",
            ],
            lsn + i * 120,
        )
        for i in range(ROWS)
    ]  # fmt: skip
    first = number == 0
    return TransactionPart(
        700 + number, Lsn(lsn + 90_000), 1_795_417_206_093_123, 0, ROWS,
        [wire.relation(ORDERS), *rows] if first else rows, (ORDERS,) if first else (), Lsn(lsn + 90_100), Lsn(lsn), 0,
    )  # fmt: skip


def measure(title: str, note: str | None, amounts: int) -> float:
    """Encode PARTS transactions; print and return microseconds per row."""
    encoder = make_encoder(spec_for(topic="orders.cdc", topic_prefix="orders-to-kafka", database="shop"))
    parts = [part(number, note, amounts) for number in range(PARTS)]
    best = 1e9
    for _ in range(3):
        started = time.process_time()
        for one in parts:
            encoded = encoder.encode(one, 0, one.previous_end, 1_795_417_206_093_123_456)
        best = min(best, time.process_time() - started)
    each = best / (ROWS * PARTS) * 1e6
    size = encoded.nbytes / ROWS
    print(f"{title:45} {each:6.2f} us/row  {size:5.0f} bytes/row  encoder {encoder.name}")
    return each


if __name__ == "__main__":
    measure("all columns present, 10,000 amounts", "a short note", 1_000_000)
    measure("all columns present, amounts all different", "a short note", 10**12)
    measure("note is NULL", None, 1_000_000)
    measure("non-ASCII note", "Grüße aus Köln", 1_000_000)
    measure("note of 300 characters", "x" * 300, 1_000_000)
