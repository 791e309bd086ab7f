"""One row that is larger than the byte budget of the whole pipeline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.fault import sizes
from tests.support.pipelines import local, write
from tests.support.process import Deltaforge

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.databases import Database

GIANT = (200 if sizes.FULL else 40) * 2**20
"""Bytes of text; the budget is 32 MiB."""
WAIT_S = 60.0


@pytest.mark.fault("G12", "G14")
@pytest.mark.slow
def test_a_row_larger_than_the_whole_budget_passes(database: Database, tmp_path: Path) -> None:
    """Guards against a row that waits for room which its own BEGIN, read before it, takes away."""
    database.execute("create table orders(id bigint primary key, note text)")
    database.execute("create publication orders_pub for table orders")
    out = tmp_path / "out.jsonl"
    document = local("giant", "unused")
    document["spec"]["source"]["config"]["tables"] = ["public.orders"]
    document["spec"]["sinks"] = [{"type": "file", "config": {"id": "out", "path": str(out)}}]
    file = write(tmp_path / "pipeline.yaml", document)
    with Deltaforge(file, {"POSTGRES_DSN": database.dsn(), "KAFKA_BROKERS": "none"}, name="giant") as product:
        product.wait_ready()
        # WHEN it comes twice: the second time its table is announced already
        for number in (1, 2):
            database.execute("insert into orders values (%s, repeat('x', %s))", (number, GIANT))
            deadline = time.monotonic() + WAIT_S
            # THEN it arrives
            while not out.exists() or out.stat().st_size < number * GIANT:
                assert time.monotonic() < deadline, f"{product.pipeline('giant')['budget']}\n{product.tail()}"
                time.sleep(0.05)
        assert product.term() == 0, product.tail()
