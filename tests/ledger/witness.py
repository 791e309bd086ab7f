"""Everything that watches a run from outside, and the judgement at its end.

    document = ledger("kills", topic)
    with Deltaforge(...) as product:                 # once: the slot has to stand before the first row
        ...
    with Witness(subject_of(document), cluster, dsn) as witness, Workload(dsn, seed=7, plan=FULL) as load:
        ...                                          # faults
        load.stop()
        witness.settle(expected := load.expected())  # the process runs, and nothing is broken
        product.term()
        verdict = witness.judge(expected)

While the run lasts, a consumer reads along and PostgreSQL is asked what is confirmed. At the end two more consumers
read everything, one of them Java's; the broker's log files and its coordinator's log are looked into; PostgreSQL's
tables are compared. `judge_footprints` and `judge_secrets` need the process and are left to whoever has it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Self

from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from tests.ledger.checkpoints import Checkpoint, parse_checkpoint
from tests.ledger.evidence import Evidence, judge_run
from tests.ledger.java_reader import read_with_java
from tests.ledger.replay import tables_of
from tests.ledger.sampler import Sampler
from tests.ledger.tapes import Tape
from tests.support.kafka_topics import ends_of
from tests.support.partition_logs import read_logs
from tests.support.topics import consumer, partitions, stream, take
from tests.support.transaction_log import ENDED, read_transaction_log

if TYPE_CHECKING:
    from deltaforge.embedded.kafka import KafkaCluster
    from tests.ledger.outcomes import Expected
    from tests.ledger.pipeline import Subject
    from tests.ledger.seen import Place
    from tests.ledger.verdict import Verdict
    from tests.support.topics import Record

STALLED_S = 60.0
SILENT_S = 20.0
ENDS_S = 30.0


class Witness:
    """Watches one pipeline that has been started at least once."""

    def __init__(self, subject: Subject, cluster: KafkaCluster, dsn: str, *, bootstrap: str | None = None) -> None:
        """Nothing is watched before the `with` block.

        Args:
          dsn: of the source, for a role that may read everything.
          bootstrap: where our own clients reach the cluster, if not at its own address.
        """
        self._subject, self._cluster, self._dsn = subject, cluster, dsn
        self._bootstrap = bootstrap or cluster.bootstrap()
        self._sampler = Sampler(dsn, subject.slot)
        self.live = Tape("concurrent reader")
        self._checkpoints: dict[int, Checkpoint] = {}
        self._damaged: dict[int, str] = {}
        self._failure: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    @property
    def count(self) -> int:
        """Records that the concurrent reader has seen so far."""
        return self.live.count

    @property
    def failure(self) -> BaseException | None:
        """What ended the concurrent reader before its time."""
        return self._failure

    def wait_for(self, count: int, *, stalled_s: float = STALLED_S) -> None:
        """Block until so many records were seen. Raises TimeoutError when none comes for `stalled_s`."""
        last, since = -1, time.monotonic()
        while (now := self.count) < count:
            if self._failure is not None:
                raise self._failure
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > stalled_s:
                raise TimeoutError(f"{now} of {count} records, and no new one for {stalled_s:.0f} s")
            self._stop.wait(0.05)

    def settle(self, expected: Expected) -> None:
        """Block until everything that must come has come, or nothing more comes."""
        with contextlib.suppress(TimeoutError):
            self.wait_for(expected.events + expected.tombstones)

    def sample_no_more(self) -> None:
        """Ask PostgreSQL no more what is confirmed."""
        self._sampler.close()

    def judge(self, expected: Expected, *, split: bool = False) -> Verdict:
        """I1 to I11. The pipeline is stopped, or idle.

        Args: split: whether a source transaction may lie in several Kafka transactions.
        """
        began = time.monotonic()
        self._sampler.close()
        verdict = judge_run(self._evidence(), expected, split=split)
        verdict.figures["most WAL retained, MiB"] = round(self._sampler.most_retained / 2**20, 1)
        verdict.figures["judged in, s"] = round(time.monotonic() - began, 1)
        return verdict

    def close(self) -> None:
        """Watch no more."""
        self._sampler.close()
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def __enter__(self) -> Self:
        self._consumer = consumer(self._bootstrap)
        topics = [*self._subject.topics, self._subject.checkpoints]
        try:
            places = [(topic, number) for topic in topics for number in partitions(self._consumer, topic)]
        except BaseException:
            self._consumer.close()
            raise
        self._next = dict.fromkeys(places, OFFSET_BEGINNING)
        self._assign()
        self._sampler.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _watch(self) -> None:
        try:
            heard = time.monotonic()
            while not self._stop.is_set():
                records = take(self._consumer, lambda *_: None)
                for record in records:
                    self._note(record)
                    self._next[record.topic, record.partition] = record.offset + 1
                if records:
                    heard = time.monotonic()
                elif time.monotonic() > heard + SILENT_S:
                    self._reopen()
                    heard = time.monotonic()
        except Exception as error:
            self._failure = error
        finally:
            self._consumer.close()

    def _assign(self) -> None:
        self._consumer.assign([TopicPartition(*place, offset) for place, offset in self._next.items()])

    def _reopen(self) -> None:
        """Go on in another client: one was seen to read nothing for two minutes after its broker had come back."""
        self._consumer.close()
        self._consumer = consumer(self._bootstrap)
        self._assign()

    def _note(self, record: Record) -> None:
        if record.topic != self._subject.checkpoints:
            self.live.add(record)
        elif record.offset not in self._checkpoints:
            try:
                parsed = parse_checkpoint(record.offset, record.time_ms, record.key, record.value)
            except (ValueError, KeyError) as error:
                self._damaged[record.offset] = f"offset {record.offset}: {error}"
            else:
                self._checkpoints[record.offset] = parsed

    def _evidence(self) -> Evidence:
        subject, bootstrap = self._subject, self._bootstrap
        ends = self._ends()
        logs = read_logs(self._cluster, [*subject.topics, subject.checkpoints], bootstrap)
        for record in stream(bootstrap, [subject.checkpoints]):
            # Compaction may have removed some since the concurrent reader saw them.
            self._note(record)
        checkpoints = dict(self._checkpoints)
        # Last: an idle pipeline may go on, and every marker must find its decision.
        log = read_transaction_log(bootstrap)
        return Evidence(
            subject=subject,
            records=stream(bootstrap, subject.topics),
            everything=lambda: stream(bootstrap, subject.topics, committed=False),
            live=self._live,
            java=lambda counts: read_with_java(bootstrap, counts),
            logs=logs,
            decisions=log.decisions.get(subject.transactional_id, []),
            state=log.states.get(subject.transactional_id, "never seen"),
            ends=ends,
            checkpoints=[checkpoints[offset] for offset in sorted(checkpoints)],
            damaged=list(self._damaged.values()),
            samples=self._sampler.samples(),
            tables=tables_of(self._dsn),
        )

    def _ends(self) -> dict[Place, tuple[int, int]]:
        """The ends of all partitions. Markers follow a commit: they are waited for."""
        topics = [*self._subject.topics, self._subject.checkpoints]
        deadline = time.monotonic() + ENDS_S
        while True:
            stable = ends_of(self._bootstrap, topics)
            every = ends_of(self._bootstrap, topics, "read_uncommitted")
            log = read_transaction_log(self._bootstrap)
            ended = log.states.get(self._subject.transactional_id) in ENDED
            if (ended and stable == every) or time.monotonic() > deadline:
                return {place: (stable[place], end) for place, end in every.items()}
            time.sleep(0.2)

    def _live(self, count: int) -> Tape:
        with contextlib.suppress(TimeoutError):
            self.wait_for(count, stalled_s=ENDS_S)
        return self.live
