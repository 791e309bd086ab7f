"""The checker itself: every kind of trouble, planted in a topic that was right, is found and named."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tests.ledger.judge import judge
from tests.ledger.outcomes import Transaction, collect
from tests.ledger.rows import OMITTED, canonical
from tests.support.topics import Marker, Record

if TYPE_CHECKING:
    from tests.ledger.outcomes import Expected

ABORTED = 99
ROW = {
    "id": 1,
    "customer_id": 1,
    "status": "new",
    "total": "BNI=",
    "note": None,
    "created_at": "2024-01-02T03:04:05.678901Z",
}
PLAIN = (1, 1, "new", None, None, None, None, None)


def _value(op: str, order: int, version: int, xid: int, previous: int) -> bytes:
    row = {**ROW, "id": order, "customer_id": version, "updated_at": None, "gift": False}
    source = {"table": "orders", "txId": xid, "sequence": json.dumps([str(previous), str(previous + 5)])}
    event = {"before": None, "after": None if op == "d" else row, "source": source, "op": op}
    return json.dumps(event, separators=(",", ":")).encode()


def _key(order: int) -> bytes:
    return json.dumps({"id": order, "__dbz__physicalTableIdentifier": "x.public.orders"}).encode()


def _right() -> tuple[list[Record], Expected]:
    """Transaction 10 inserts orders 1 and 2, 11 updates 1 twice, 12 deletes 1; 99 was rolled back."""
    history = [("c", 1, 1, 10), ("c", 2, 1, 10), ("u", 1, 2, 11), ("u", 1, 3, 11), ("d", 1, 0, 12)]
    transactions = {xid: Transaction(token=xid, xid=xid) for xid in (10, 11, 12)}
    records: list[Record] = []
    for at, (op, order, version, xid) in enumerate(history):
        row = None if op == "d" else _expected_row(order, version)
        transactions[xid].record(("orders", (order,)), op, row, at)
        value = _value(op, order, version, xid, 100 * (xid - 9))
        records.append(Record(0, len(records), _key(order), value, topic="t"))
        if op == "d":
            records.append(Record(0, len(records), _key(order), None, topic="t"))
    return records, collect(transactions.values(), [ABORTED])


def _expected_row(order: int, version: int) -> tuple[Any, ...]:
    created = 1704164645678901
    return (order, version, "new", Decimal("12.34"), None, created, None, False)


def test_a_topic_that_shows_every_version_once_is_clean() -> None:
    """Guards against a checker that cries wolf."""
    records, expected = _right()
    verdict = judge(records, expected)
    assert verdict.clean, str(verdict)
    assert (verdict.events, verdict.tombstones) == (5, 1)
    assert (expected.events, expected.tombstones) == (5, 1)


def _lose(records: list[Record]) -> None:
    del records[2]


def _double(records: list[Record]) -> None:
    records.insert(4, records[3])


def _swap(records: list[Record]) -> None:
    records[2], records[3] = records[3], records[2]


def _undo(records: list[Record]) -> None:
    records.insert(4, Record(0, 4, _key(2), _value("u", 2, 7, ABORTED, 300), topic="t"))


def _invent(records: list[Record]) -> None:
    records.insert(4, Record(0, 4, _key(3), _value("c", 3, 1, 11, 200), topic="t"))


def _change(records: list[Record]) -> None:
    records[3] = records[3]._replace(value=_value("u", 1, 33, 11, 200))


def _drop_tombstone(records: list[Record]) -> None:
    del records[5]


def _stray_tombstone(records: list[Record]) -> None:
    records.insert(2, Record(0, 2, _key(2), None, topic="t"))


def _break_value(records: list[Record]) -> None:
    records[1] = records[1]._replace(value=b'{"op":"c"')


def _move(records: list[Record]) -> None:
    records[4] = records[4]._replace(partition=1)
    records[5] = records[5]._replace(partition=1)


def _go_back(records: list[Record]) -> None:
    records[4] = records[4]._replace(value=_value("d", 1, 0, 12, 50))


@pytest.mark.parametrize(
    ("plant", "kinds"),
    [
        (_lose, {"lost", "torn"}),
        (_double, {"doubled"}),
        (_swap, {"reordered"}),
        (_undo, {"unexpected"}),
        (_invent, {"unexpected"}),
        (_change, {"lost", "unexpected"}),
        (_drop_tombstone, {"tombstones"}),
        (_stray_tombstone, {"tombstones"}),
        (_break_value, {"unreadable", "lost", "torn"}),
        (_move, {"reordered"}),
        (_go_back, {"reordered"}),
    ],
)
def test_a_planted_defect_is_named(plant: Any, kinds: set[str]) -> None:
    """Guards against a verdict of zero that only means nobody looked."""
    records, expected = _right()
    plant(records)
    verdict = judge(records, expected)
    assert set(verdict.troubles) == kinds, str(verdict)


def test_a_loss_in_the_middle_does_not_count_as_a_wrong_order() -> None:
    """Guards against counts that say nothing: one lost version used to look like many misplaced ones."""
    records, expected = _right()
    _lose(records)
    assert judge(records, expected).troubles["lost"] == 1


def test_a_transaction_spread_over_two_kafka_transactions_is_torn() -> None:
    """Guards against an unsplit source transaction that readers can see half of for a while."""
    records, expected = _right()
    whole = [Marker("t", 0, 1, 7, 0, True), Marker("t", 0, 5, 7, 0, True)]
    assert judge(records, expected, [Marker("t", 0, 6, 7, 0, True)]).clean
    assert judge(records, expected, whole).clean
    torn = [Marker("t", 0, 2, 7, 0, True), *whole]
    assert judge(records, expected, sorted(torn)).troubles == {"torn": 1}


def test_an_empty_topic_is_a_total_loss() -> None:
    """Guards against a comparison that only looks at what is there."""
    _, expected = _right()
    assert judge([], expected).troubles["lost"] == expected.events


def test_a_row_the_writer_kept_out_of_line_is_compared_without_that_value() -> None:
    """Guards against calling the placeholder of an unchanged large value a wrong row."""
    records, _ = _right()
    value = json.loads(records[0].value or b"")
    value["after"]["note"] = "__debezium_unavailable_value"
    transaction = Transaction(token=1, xid=10)
    row = _expected_row(1, 1)
    transaction.record(("orders", (1,)), "c", (*row[:4], OMITTED, *row[5:]), 1)
    record = records[0]._replace(value=json.dumps(value).encode())
    assert judge([record], collect([transaction])).clean


def test_a_null_with_a_column_default_is_expected_as_the_default() -> None:
    """Guards against a disagreement with Kafka Connect's converter, which writes the default for a NULL."""
    assert canonical("orders", PLAIN)[-1] is False
