"""The judgement of a whole run: one thing put wrong in evidence that was right breaks one invariant, the right one."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import tests.ledger
from tests.ledger.evidence import judge_run
from tests.ledger.footprint import Footprint, judge_footprints, judge_secrets
from tests.ledger.verdict import INVARIANTS, KINDS, Verdict
from tests.support.canaries import canary
from tests.support.hand_made import LSN, NEW_KEY, Change, HandMade, KafkaTransaction, tape_of
from tests.support.partition_logs import Batch, Mark, PartitionLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.ledger.evidence import Evidence

JUDGED = {f"I{number}" for number in range(1, 12)}


def test_a_run_in_which_nothing_is_wrong_is_clean_in_every_respect() -> None:
    """Guards against a judge that cries wolf, and against one that looks at nothing."""
    verdict = judge_run(HandMade().evidence(), HandMade().expected)
    assert verdict.clean, str(verdict)
    assert verdict.judged == JUDGED
    assert verdict.events == 16
    assert verdict.figures["Kafka transactions"] == {"committed": 3, "aborted": 1}


def _lose(run: HandMade) -> None:
    """All of transaction 11, whose rows later ones have overwritten."""
    run.second.changes = [change for change in run.second.changes if change.xid != 11]


def _double(run: HandMade) -> None:
    run.second.changes.insert(1, run.second.changes[0])


def _share_a_commit(run: HandMade) -> None:
    """14 is shown behind 13, as if both had committed at once."""
    for change in run.third.changes:
        if change.xid == 14:
            change.lsn = LSN[13]


def _commit_at_two_positions(run: HandMade) -> None:
    next(change for change in run.third.changes if change.table == "accounts" and change.id == 2).lsn = LSN[14] - 1


def _misnumber(run: HandMade) -> None:
    next(change for change in run.third.changes if change.xid == 13 and change.id == 2).number = 0


def _swap_neighbours(run: HandMade) -> None:
    """Two orders of one partition; each has its versions in order."""
    changes = run.first.changes
    changes[2], changes[4] = changes[4], changes[2]


def _swap(run: HandMade) -> None:
    changes = run.second.changes
    changes[0], changes[1] = changes[1], changes[0]


def _scatter(run: HandMade) -> None:
    next(change for change in run.third.changes if change.table == "orders" and change.version == 5).partition = 0


def _undo_a_savepoint(run: HandMade) -> None:
    run.third.changes.insert(1, Change(13, 0, "orders", "u", 2, 77))


def _undo_a_transaction(run: HandMade) -> None:
    run.third.changes.insert(0, Change(99, 0, "orders", "u", 2, 8))


def _split(run: HandMade) -> None:
    """11 begins in the first Kafka transaction, and the checkpoints say so."""
    run.first.changes += run.second.changes[:2]
    run.second.changes = run.second.changes[2:]
    run.checkpoints[1] = run.checkpoints[1]._replace(commit_lsn=200, number=1, xid=11)


def _split_over_partitions(run: HandMade) -> None:
    """What of 11 is in one partition lies in the first Kafka transaction, the rest, elsewhere, in the second."""
    here = [change for change in run.second.changes if change.xid == 11 and change.id == 1]
    run.first.changes += here
    run.second.changes = [change for change in run.second.changes if change not in here]
    run.checkpoints[1] = run.checkpoints[1]._replace(commit_lsn=200, number=1, xid=11)


def _write_with_two_epochs(run: HandMade) -> None:
    run.third.epochs = {1}


def _forget_a_tombstone(run: HandMade) -> None:
    run.second.changes = [change for change in run.second.changes if not change.tombstone]


def _change_a_table(run: HandMade) -> None:
    run.tables["accounts"][0] = (1, 2, 70, "memo")


def _change_a_row(run: HandMade) -> None:
    run.tables["accounts"][0] = (1, 3, 70, None)


def _lose_the_funds(run: HandMade) -> None:
    """The writers have forgotten all accounts, and with them where the money came from."""
    for transaction in run.kafka:
        transaction.changes = [change for change in transaction.changes if change.table != "accounts"]
    run.expected = run.expect()
    run.tables["accounts"] = []


def _miss_a_row(run: HandMade) -> None:
    del run.tables["orders"][0]


def _keep_a_row(run: HandMade) -> None:
    order = run.tables["orders"][0]
    run.tables["orders"].append((3, *order[1:]))


def _make_money(run: HandMade) -> None:
    """PostgreSQL and the writers agree on it; only the sum is wrong."""
    moved = next(change for change in run.third.changes if change.table == "accounts" and change.id == 2)
    moved.balance = 31
    run.expected = run.expect()
    run.tables["accounts"][1] = (2, 2, 31, None)


def _fall(run: HandMade) -> None:
    run.checkpoints[3] = run.checkpoints[3]._replace(seq=1)


def _stop_short(run: HandMade) -> None:
    run.checkpoints[3] = run.checkpoints[3]._replace(commit_lsn=500, number=2, xid=14)


def _finish_early(run: HandMade) -> None:
    run.checkpoints[3] = run.checkpoints[3]._replace(number=0)


def _commit_without_a_checkpoint(run: HandMade) -> None:
    run.kafka.insert(3, KafkaTransaction([], 3500))


def _commit_what_was_aborted(run: HandMade) -> None:
    run.checkpoints[2:2] = [run.checkpoints[1]._replace(offset=2, time_ms=1990, seq=2)]
    run.checkpoints[3:] = [checkpoint._replace(seq=checkpoint.seq + 1) for checkpoint in run.checkpoints[3:]]


def _cover_too_much(run: HandMade) -> None:
    run.checkpoints[2] = run.checkpoints[2]._replace(commit_lsn=400, number=2, xid=13)


def _forget_a_checkpoint(run: HandMade) -> None:
    del run.checkpoints[2]
    run.samples = [sample for sample in run.samples if sample[1] != 310]


def _write_two_checkpoints(run: HandMade) -> None:
    run.checkpoints.insert(3, run.checkpoints[2]._replace(offset=4, time_ms=2995, seq=3))
    run.checkpoints[4] = run.checkpoints[4]._replace(seq=4)


def _confirm_before_the_commit(run: HandMade) -> None:
    run.samples.insert(3, (2999, 310))


def _confirm_what_nobody_wrote(run: HandMade) -> None:
    run.samples.append((5000, 611))


def _leave_open(run: HandMade) -> None:
    run.ends_behind = 3


def _leave_undecided(run: HandMade) -> None:
    run.state = "Ongoing"


@pytest.mark.parametrize(
    ("plant", "invariant"),
    [
        (_lose, "I1"),
        (_double, "I2"),
        (_share_a_commit, "I2"),
        (_commit_at_two_positions, "I2"),
        (_misnumber, "I2"),
        (_swap, "I3"),
        (_swap_neighbours, "I3"),
        (_scatter, "I3"),
        (_undo_a_savepoint, "I4"),
        (_undo_a_transaction, "I4"),
        (_split, "I5"),
        (_split_over_partitions, "I5"),
        (_write_with_two_epochs, "I5"),
        (_forget_a_tombstone, "I5"),
        (_change_a_table, "I6"),
        (_change_a_row, "I6"),
        (_lose_the_funds, "I6"),
        (_miss_a_row, "I6"),
        (_keep_a_row, "I6"),
        (_make_money, "I6"),
        (_fall, "I8"),
        (_stop_short, "I8"),
        (_finish_early, "I8"),
        (_commit_without_a_checkpoint, "I8"),
        (_commit_what_was_aborted, "I8"),
        (_cover_too_much, "I8"),
        (_forget_a_checkpoint, "I8"),
        (_write_two_checkpoints, "I8"),
        (_confirm_before_the_commit, "I9"),
        (_confirm_what_nobody_wrote, "I9"),
        (_leave_open, "I11"),
        (_leave_undecided, "I11"),
    ],
)
def test_one_defect_breaks_its_own_invariant_and_no_other(plant: Callable[[HandMade], None], invariant: str) -> None:
    """Guards against an invariant that nobody checks, or that is only ever broken together with others."""
    run = HandMade()
    plant(run)
    verdict = judge_run(run.evidence(), run.expected)
    assert verdict.broken == {invariant}, str(verdict)


def _live_misses_one(evidence: Evidence) -> None:
    tape = tape_of(list(evidence.records)[:-1])
    evidence.live = lambda _: tape


def _live_sees_one_twice(evidence: Evidence) -> None:
    records = list(evidence.records)
    tape = tape_of([records[0], *records])
    evidence.live = lambda _: tape


def _java_sees_other_bytes(evidence: Evidence) -> None:
    records = list(evidence.records)
    tape = tape_of([records[0]._replace(value=b"{}"), *records[1:]])
    evidence.java = lambda _: tape


def _an_aborted_batch_is_committed(evidence: Evidence) -> None:
    """The log says so; no reader of committed records sees it."""
    log = evidence.logs["t", 1]
    aborted = next(number for number, mark in enumerate(log.markers) if not mark.committed)
    log.markers[aborted] = log.markers[aborted]._replace(committed=True)


def _a_committed_batch_is_aborted(evidence: Evidence) -> None:
    log = evidence.logs["t", 1]
    log.markers[-1] = log.markers[-1]._replace(committed=False)


def _everything_lacks_one(evidence: Evidence) -> None:
    records = list(evidence.everything())
    evidence.everything = lambda: records[1:]


def _nobody_sees_one(evidence: Evidence) -> None:
    evidence.logs["t", 1].add(Batch(1000, 1000, 1, -1, -1, transactional=False))


def _a_checkpoint_is_damaged(evidence: Evidence) -> None:
    evidence.damaged = ["offset 7: wrong checksum"]


@pytest.mark.parametrize(
    ("plant", "invariant"),
    [
        (_live_misses_one, "I7"),
        (_live_sees_one_twice, "I7"),
        (_java_sees_other_bytes, "I7"),
        (_an_aborted_batch_is_committed, "I10"),
        (_a_committed_batch_is_aborted, "I10"),
        (_everything_lacks_one, "I10"),
        (_nobody_sees_one, "I10"),
        (_a_checkpoint_is_damaged, "I8"),
    ],
)
def test_evidence_that_does_not_agree_is_told(plant: Callable[[Evidence], None], invariant: str) -> None:
    """Guards against a fault that one reader hides from us, or shows us where there is none."""
    run = HandMade()
    evidence = run.evidence()
    plant(evidence)
    verdict = judge_run(evidence, run.expected)
    assert verdict.broken == {invariant}, str(verdict)


def test_the_writers_clock_does_not_matter_where_the_log_tells_in_which_transaction_a_checkpoint_is() -> None:
    """Guards against a verdict that changes with the clock of the process that is judged."""
    run = HandMade()
    run.checkpoints = [checkpoint._replace(time_ms=5) for checkpoint in run.checkpoints]
    evidence = run.evidence()
    assert judge_run(evidence, run.expected).broken == {"I8"}
    place, log = (evidence.subject.checkpoints, 0), PartitionLog()
    for offset, number in ((1, 0), (3, 2), (5, 3)):
        time_ms, producer, epoch, committed, places = evidence.decisions[number]
        log.add(Batch(offset, offset, 1, producer, epoch, transactional=True))
        log.end(Mark(offset + 1, time_ms + 3, producer, epoch, committed))
        evidence.decisions = [*evidence.decisions]
        evidence.decisions[number] = evidence.decisions[number]._replace(places=places | {place})
    evidence.logs = {**evidence.logs, place: log}
    verdict = judge_run(evidence, run.expected)
    assert verdict.clean, str(verdict)


def test_parts_are_as_good_as_whole_transactions_where_splitting_is_allowed() -> None:
    """Guards the runs with `max_tx_events`, whose transactions are torn on purpose and covered part by part."""
    run = HandMade()
    _split(run)
    verdict = judge_run(run.evidence(), run.expected, split=True)
    assert verdict.clean, str(verdict)


def test_a_large_value_that_is_not_sent_again_is_the_one_before_it_also_under_a_new_key() -> None:
    """Guards the comparison with the tables where the stream holds a placeholder and the old row lies elsewhere."""
    run = HandMade()
    evidence = run.evidence()
    records = []
    for record in evidence.records:
        value = record.value
        if (value is not None and b'"orders"' in value and record.partition == 0) or b'"id": 5' in (record.key or b""):
            first = b'"customer_id": 1' in (value or b"")
            value = value and value.replace(b'"note": null', b'"note": "%s"' % (b"x" if first else _UNSENT))
        records.append(record._replace(value=value))
    # The new key's partition comes first: its row waits for the old one's.
    evidence.records = sorted(records, key=lambda record: -record.partition)
    run.tables["orders"][1] = (*run.tables["orders"][1][:4], "x", *run.tables["orders"][1][5:])
    verdict = judge_run(evidence, run.expected)
    assert not verdict.troubles["replayed"], str(verdict)
    run.tables["orders"][1] = (*run.tables["orders"][1][:4], "y", *run.tables["orders"][1][5:])
    evidence.tables = run.tables.items()
    assert judge_run(evidence, run.expected).troubles["replayed"] == 1
    assert run.tables["orders"][1][0] == NEW_KEY


_UNSENT = b"__debezium_unavailable_value"


@pytest.mark.parametrize("name", ["threads", "descriptors", "retained_wal"])
def test_resources_that_are_not_given_back_are_told(name: str) -> None:
    """Guards against a leak that nobody looks for because every row arrived."""
    before = Footprint(17, 33, 70 * 2**20, 1000)
    verdict = Verdict()
    judge_footprints(before, dataclasses.replace(before, rss=2**30), verdict)
    assert verdict.clean
    assert verdict.figures["resources after"]["rss"] == 2**30
    after: Any = dataclasses.replace(before, **{name: 2**27})
    judge_footprints(before, after, verdict)
    assert verdict.broken == {"I12"}


def test_a_password_in_any_text_is_told_without_being_repeated() -> None:
    """Guards against a secret in a log, and in the report about it."""
    password, verdict = canary("test of the judge"), Verdict()
    judge_secrets({"the log": "all is well", "/health": f"cannot reach postgres://u:{password}@h"}, verdict)
    assert verdict.broken == {"I13"}
    assert password not in json.dumps(verdict.report())


def test_the_judges_know_nothing_of_the_product() -> None:
    """Guards against a judge that makes the product's mistakes with it; test servers are no part of it."""
    package = Path(tests.ledger.__file__).parent
    files = [*package.glob("*.py"), *(package.parent / "support" / name for name in _READERS)]
    found = {
        f"{file.name}: {name}"
        for file in files
        for name in re.findall(r"^\s*(?:from|import) ((?:deltaforge|actors)[\w.]*)", file.read_text(), re.MULTILINE)
        if not name.startswith("deltaforge.embedded.")
    }
    assert len(files) > 20
    assert not found


_READERS = ("topics.py", "kafka_topics.py", "kafka_tools.py", "partition_logs.py", "transaction_log.py", "process.py")


def test_a_verdict_counts_under_invariants_and_is_json() -> None:
    """Guards against a kind of trouble that breaks nothing, and a report that cannot be stored."""
    verdict = Verdict()
    for kind in KINDS:
        verdict.add(kind, "here", 2)
    assert verdict.broken == set(INVARIANTS)
    assert verdict.totals == {"lost": 2, "doubled": 4, "reordered": 2, "torn": 4}
    report = json.loads(json.dumps(verdict.report()))
    assert report["invariants"]["I2"] == {"looked_at": 0, "broken": 4}
    assert len(verdict.details) == len(KINDS)
    assert "I14" in verdict.table()
    with pytest.raises(KeyError):
        verdict.add("nonsense", "here")
