"""What is known of a run at its end, and its judgement: I1 to I11. Pure, so that evidence can be made by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.ledger.checkpoints import Checkpoint, Coverage, Trail, judge_samples
from tests.ledger.homes import Homes
from tests.ledger.judge import Judge
from tests.ledger.tapes import Tape, judge_agreement, judge_isolation
from tests.ledger.verdict import Verdict
from tests.support.transaction_log import ENDED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tests.ledger.outcomes import Expected
    from tests.ledger.pipeline import Subject
    from tests.ledger.seen import Place
    from tests.support.partition_logs import PartitionLog
    from tests.support.topics import Record
    from tests.support.transaction_log import Decision


@dataclass
class Evidence:
    """Of one pipeline. What is large comes as it is looked at."""

    subject: Subject
    records: Iterable[Record]
    """As the final reader of committed records sees them, in order within each partition."""
    everything: Callable[[], Iterable[Record]]
    """As a reader of everything sees them."""
    live: Callable[[int], Tape]
    """The tape of the reader that was there all the time; takes how many records are to be waited for."""
    java: Callable[[Mapping[str, int]], Tape]
    """The tape of Java's reader; takes the number of records of each topic."""
    logs: Mapping[Place, PartitionLog]
    """Of all partitions, that of the checkpoints included."""
    decisions: Sequence[Decision]
    """Of the sink's transactional id."""
    state: str
    """The coordinator's last word on it."""
    ends: Mapping[Place, tuple[int, int]]
    """How far readers of committed records and of everything can come."""
    checkpoints: Sequence[Checkpoint]
    damaged: Sequence[str]
    """Records of the checkpoint topic that are none."""
    samples: Iterable[tuple[int, int]]
    """Of what PostgreSQL says is confirmed, see `judge_samples`."""
    tables: Iterable[tuple[str, Iterable[tuple[Any, ...]]]]
    """PostgreSQL's tables, as canonical rows."""


def judge_run(evidence: Evidence, expected: Expected, *, split: bool = False) -> Verdict:
    """I1 to I11. Args: split: whether a source transaction may lie in several Kafka transactions."""
    verdict = Verdict()
    _judge_ends(evidence, verdict)
    homes = Homes(evidence.logs, evidence.decisions)
    homes.judge(verdict)
    trail = _judge_checkpoints(evidence, expected, homes, verdict)
    judge = Judge(expected, homes=homes, coverage=Coverage(trail, verdict), split=split, verdict=verdict)
    final = _judge_events(evidence, judge)
    _judge_readers(evidence, final, verdict)
    committed = sum(decision.committed for decision in evidence.decisions)
    verdict.figures["Kafka transactions"] = {
        "committed": committed,
        "aborted": len(evidence.decisions) - committed,
    }
    return verdict


def _judge_ends(evidence: Evidence, verdict: Verdict) -> None:
    """I11: committed readers come to the end of every partition, and the coordinator has nothing left to do."""
    verdict.look("I11", len(evidence.ends) + 1)
    for place, (stable, end) in evidence.ends.items():
        if stable != end:
            verdict.add("open", f"{place}: committed readers come to {stable} of {end}")
    if evidence.state not in ENDED:
        verdict.add("open", f"the transaction of {evidence.subject.transactional_id} is {evidence.state}")


def _judge_checkpoints(evidence: Evidence, expected: Expected, homes: Homes, verdict: Verdict) -> Trail:
    """I8, as far as it can be told without the events, and I9."""
    for damaged in evidence.damaged:
        verdict.add("checkpoint", damaged)
    trail = Trail(evidence.checkpoints, homes, (evidence.subject.checkpoints, 0))
    trail.judge(verdict, expected)
    judge_samples(evidence.samples, trail, verdict)
    return trail


def _judge_events(evidence: Evidence, judge: Judge) -> Tape:
    """I1 to I6, and I8 event by event."""
    final = Tape("final reader")
    for record in evidence.records:
        final.add(record)
        judge.take(record)
    judge.finish(evidence.tables)
    return final


def _judge_readers(evidence: Evidence, final: Tape, verdict: Verdict) -> None:
    """I7 and I10."""
    judge_agreement(final, evidence.live(final.count), verdict)
    counts = dict.fromkeys(evidence.subject.topics, 0)
    for (topic, _), offsets in final.offsets.items():
        counts[topic] += len(offsets)
    judge_agreement(final, evidence.java(counts), verdict)
    everything = Tape("reader of everything")
    for record in evidence.everything():
        everything.add(record)
    data = {place: log for place, log in evidence.logs.items() if place[0] in evidence.subject.topics}
    judge_isolation(final, everything, data, verdict)
