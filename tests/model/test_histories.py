"""The model's PostgreSQL does what PostgreSQL does, and names rows as the product counts them."""

from __future__ import annotations

import pytest

from deltaforge.model import LogicalMessage, TransactionPart, TransactionRun
from deltaforge.position import Passed, item_position
from tests.model.histories import WORLDS, Source

FULL = Source(WORLDS["full"])


def test_the_server_sends_a_transaction_again_at_equality_but_no_message() -> None:
    """Guards the model itself: this is what PostgreSQL does, and what the anchor's two rules are made for."""
    first = FULL.items[FULL.stream(0, 20, 0)[0]]
    assert isinstance(first, TransactionPart)
    assert first.commit_lsn == 20
    assert isinstance(FULL.items[FULL.stream(0, 15, 0)[0]], LogicalMessage)


@pytest.mark.parametrize("cut", [0, 1])
@pytest.mark.parametrize("world", [0, 1, 2])
def test_rows_up_to_an_item_are_those_at_or_below_its_position(world: int, cut: int) -> None:
    """Guards the check of checkpoints: it has to count rows as the product does."""
    rows = 0
    for number in FULL.stream(world, 0, cut):
        item = FULL.items[number]
        rows += len(FULL.rows(item, Passed(0, 1, isinstance(item, TransactionPart) and item.committed)))
        if not FULL.is_mark(number):
            assert FULL.covered(world, item_position(item)) == rows
    assert rows == len(FULL.wanted[world])


def test_small_transactions_of_one_chunk_flow_as_a_run() -> None:
    """Guards against exploring only the parts: runs are what the door has to take apart."""
    assert any(isinstance(FULL.items[number], TransactionRun) for number in FULL.stream(0, 0, 1))
