"""SIGKILL at random moments under load: nothing lost, doubled, reordered or torn, and whatever else can be judged.

`DELTAFORGE_KILLS`, `DELTAFORGE_KILL_ROWS`, `DELTAFORGE_KILL_RATE` and `DELTAFORGE_SEED` make it longer or different,
see `sizes`.
"""

from __future__ import annotations

import faulthandler
import random
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.fault.sizes import KILL_RATE, KILL_ROWS, KILLS, SEED
from tests.ledger.footprint import footprint, judge_footprints, judge_secrets, said_by
from tests.ledger.pipeline import Subject, ledger, subject_of
from tests.ledger.verdict import INVARIANTS
from tests.ledger.witness import Witness
from tests.ledger.workload import Workload, make_tables
from tests.ledger.writer import FULL
from tests.support.databases import CDC_USER
from tests.support.kafka_topics import create_topic, end_offsets
from tests.support.pipelines import write
from tests.support.process import Deltaforge
from tests.support.topics import Watch, aborted_transactions, markers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.ledger.verdict import Verdict
    from tests.support.databases import Database

DURING_START = 0.15
"""Share of the kills that hit the process while it is still starting."""
AT_A_RECORD = 0.6
"""Share that waits, at its random moment, for the next record to appear: its Kafka transaction is still open then."""
ELSEWHERE = {"I14"}
"""A killed process has no status to be honest about."""


@dataclass
class Storm:
    """One run of the kills, and what it measured."""

    product: Deltaforge
    witness: Witness
    watch: Watch
    bootstrap: str
    topic: str
    left_open: int = 0
    """After how many kills a reader could see that a transaction was open."""
    moments: list[str] = field(default_factory=list)
    recovered_s: list[float] = field(default_factory=list)
    """Seconds from a start to the first new event that a consumer saw."""

    def strike(self, rng: random.Random) -> None:
        """Start the process, let it work for a random while, kill it."""
        self.product.start()
        dice, wait = rng.random(), rng.uniform(0.0, 1.0)
        if dice < DURING_START:
            self.moments.append(f"{wait:.2f} s after start")
            time.sleep(wait)
        else:
            self._until_it_works()
            time.sleep(wait)
            at_a_record = dice < DURING_START + AT_A_RECORD
            self.moments.append(f"{wait:.2f} s after its first event" + (", at the next record" * at_a_record))
            if at_a_record:
                self.watch.wait()
        self.kill()

    def kill(self) -> None:
        """SIGKILL, and look whether that left a Kafka transaction open."""
        self.product.kill9()
        ends = [end_offsets(self.bootstrap, self.topic, level) for level in ("read_committed", "read_uncommitted")]
        self.left_open += ends[0] != ends[1]

    def _until_it_works(self) -> None:
        began, before = time.monotonic(), self.witness.count
        self.witness.wait_for(before + 1)
        self.recovered_s.append(time.monotonic() - began)


@pytest.fixture
def topic(kafka: KafkaCluster, topic_prefix: str) -> str:
    """A topic of twelve partitions."""
    return create_topic(kafka.bootstrap(), f"{topic_prefix}.events", 12)


@pytest.fixture
def running(
    kafka: KafkaCluster, database: Database, topic: str, topic_prefix: str, tmp_path: Path
) -> Iterator[tuple[Deltaforge, Subject]]:
    """A pipeline over fresh tables, ready; its password is one that no log may show."""
    make_tables(database.dsn(), ledger=True)
    database.execute(f"grant select on all tables in schema public to {CDC_USER}")
    document = ledger(f"kill-{topic_prefix}", topic)
    servers = {"POSTGRES_DSN": database.cdc_dsn(), "KAFKA_BROKERS": kafka.bootstrap()}
    product = Deltaforge(write(tmp_path / "pipeline.yaml", document), servers, name="kill9")
    with product:
        product.wait_ready()
        yield product, subject_of(document)


@pytest.mark.fault("P21", "G10", "G13")
@pytest.mark.slow
def test_kills_at_random_moments_break_no_invariant(
    running: tuple[Deltaforge, Subject],
    kafka: KafkaCluster,
    database: Database,
    topic: str,
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Guards against a position that is not part of the same Kafka transaction as its rows, in any of its disguises."""
    # pytest's dump of all stacks is for hangs; this test is long by design and has deadlines of its own.
    faulthandler.cancel_dump_traceback_later()
    product, subject = running
    rng, began, dsn = random.Random(SEED), time.monotonic(), database.dsn()
    before = footprint(product, dsn, subject.slot)
    # GIVEN writers that never pause
    with Witness(subject, kafka, dsn) as witness, Watch(kafka.bootstrap(), topic) as watch:
        storm = Storm(product, witness, watch, kafka.bootstrap(), topic)
        with Workload(dsn, seed=SEED, rows_per_s=KILL_RATE, plan=FULL) as load:
            witness.wait_for(1)
            storm.moments.append("at its very first event")
            storm.kill()
            # WHEN the process is killed again and again
            while len(storm.moments) < KILLS:
                storm.strike(rng)
            product.start()
            load.wait_for_rows(KILL_ROWS)
        expected = load.expected()
        witness.settle(expected)
        product.wait_ready()
        after = footprint(product, dsn, subject.slot)
        said = said_by(product, subject.name)
        assert product.term() == 0, product.tail()
        # THEN nothing that the ledger can judge is wrong
        verdict = witness.judge(expected)
    judge_footprints(before, after, verdict)
    judge_secrets(said, verdict)
    aborted = aborted_transactions(markers(kafka, topic))
    record_property("verdict", verdict.totals)
    record_property("judged", verdict.report())
    record_property("start to first new event, s", storm.recovered_s)
    with capsys.disabled():
        print(_table(storm, load, verdict, len(aborted), time.monotonic() - began))
    assert verdict.clean, str(verdict)
    assert verdict.judged == set(INVARIANTS) - ELSEWHERE
    # Fewer open transactions at the kills would mean that the dangerous moments were not hit.
    assert len(aborted) >= KILLS / 4


def _table(storm: Storm, load: Workload, verdict: Verdict, aborted: int, seconds: float) -> str:
    recovered = storm.recovered_s or [0.0]
    return "\n".join(
        [
            "",
            f"kills                          {len(storm.moments)} (seed {SEED})",
            f"row changes written            {load.rows}",
            f"events / tombstones read       {verdict.events} / {verdict.tombstones}",
            f"left a transaction open        {storm.left_open}, of which aborted markers tell {aborted}",
            *(f"  {number:2}. {moment}" for number, moment in enumerate(storm.moments, 1)),
            f"start to first new event       median {statistics.median(recovered):.1f} s, worst {max(recovered):.1f} s",
            f"wall time                      {seconds:.0f} s",
            verdict.table(),
        ]
    )
