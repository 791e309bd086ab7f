"""What is done to a pipeline so that a bug shows. Every hunt is fair to a product without bugs: it passes."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from confluent_kafka import Producer

from tests.nemesis.stage import Stage, Trouble
from tests.proxy.faults import TO_SERVER
from tests.proxy.frames import Api
from tests.support.topics import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.ledger.verdict import Verdict
    from tests.nemesis.stage import Servers
    from tests.support.pipelines import Document
    from tests.support.process import Deltaforge

KILLS = 6
_SPLIT = {"max_events": 7, "max_tx_events": 20}
"""A transaction can be split only where a batch ends."""
_PATIENCE_S = 20.0
REFUSED = 4
"""Exit code of a pipeline that refuses."""


class Prey(Stage):
    """A stage whose process runs a copy of the product."""

    source: Path
    batch: Mapping[str, int]
    armed = ""

    def instance(self) -> Deltaforge:
        """A process of the copy, with Python's codec: bugs are planted in Python."""
        made = super().instance()
        made.run_from(self.source, {"DELTAFORGE_CODEC": "python", "DELTAFORGE_FAILPOINTS": self.armed})
        return made

    def document(self) -> Document:
        """The pipeline, with small parts where the hunt wants them."""
        document = super().document()
        document["spec"]["batch"].update(self.batch)
        return document


def hunt(name: str, servers: Servers, source: Path, directory: Path, seed: int) -> Verdict:
    """Run one hunt and judge it, whatever the process made of it."""
    act: Callable[[Prey, random.Random], str] = globals()[name]
    split = name == "kills_of_split"
    prey = Prey(servers, f"mutant-{seed}-{time.time_ns() // 1_000_000}", seed, directory)
    prey.source, prey.batch = source, (_SPLIT if split else {})
    with prey as stage:
        trouble = ""
        try:
            stage.recover()
            trouble = act(prey, random.Random(seed))
            if act is not advanced_slot:
                stage.mend()
        except (Trouble, TimeoutError) as found:
            trouble = f"the process ended or stood still: {str(found)[:400]}"
        servers.heal()
        stage.load.stop()
        expected = stage.load.expected()
        if stage.product.running:
            stage.witness.settle(expected)
            stage.product.term()
        verdict = stage.witness.judge(expected, split=split)
        if trouble:
            verdict.add("dishonest", trouble)
        return verdict


def calm(stage: Prey, rng: random.Random) -> str:
    """Nothing but load."""
    seen = stage.witness.count
    stage.witness.wait_for(seen + 6000)
    return ""


def kills(stage: Prey, rng: random.Random) -> str:
    """SIGKILL while a Kafka transaction is open, again and again."""
    for _ in range(KILLS):
        with Watch(stage.kafka.direct, stage.topic) as watch:
            time.sleep(rng.uniform(0, 1.0))
            watch.wait()
            stage.kill()
        stage.product.start()
        stage.recover()
    return ""


def kills_of_split(stage: Prey, rng: random.Random) -> str:
    """The same with source transactions in several parts."""
    return kills(stage, rng)


def lost_answers(stage: Prey, rng: random.Random) -> str:
    """Commits that are done and not answered."""
    for _ in range(3):
        rule = stage.kafka.drop_response(Api.EndTxn)
        rule.wait_hit()
        stage.kafka.heal()
        for proxy in stage.kafka.proxies:
            proxy.cut()
            proxy.refuse()
        # The client gives up before it can ask again.
        time.sleep(rng.uniform(1.0, 2.0))
        stage.database.execute("select pg_terminate_backend(pid) from pg_stat_replication")
        stage.kafka.heal()
        stage.recover()
    return ""


def foreign_transaction(stage: Prey, rng: random.Random) -> str:
    """Somebody else's open transaction lies in the checkpoint topic while the process is killed."""
    producer = Producer({"bootstrap.servers": stage.kafka.direct, "transactional.id": f"foreign-{stage.name}"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(stage.subject.checkpoints, b"{}", b"foreign")
    producer.flush(30)
    # What is committed from now on is not confirmed to PostgreSQL: the guard would notice an older record.
    hole = stage.servers.proxy.black_hole((TO_SERVER,), keep=False)
    stage.witness.wait_for(stage.witness.count + 300)
    stage.kill()
    stage.servers.proxy.lift(hole)
    stage.servers.proxy.cut()
    stage.product.start()
    # One that does not wait for it runs before.
    deadline = time.monotonic() + _PATIENCE_S
    seen = stage.witness.count
    while stage.witness.count < seen + 100 and time.monotonic() < deadline:
        time.sleep(0.1)
    producer.abort_transaction(30)
    stage.recover()
    return ""


def late_commit(stage: Prey, rng: random.Random) -> str:
    """A commit arrives when a successor is starting, before its producer is initialised."""
    commit = stage.kafka.hold_request(Api.EndTxn)
    commit.wait_hit()
    stage.kill()
    init = stage.kafka.hold_request(Api.InitProducerId)
    stage.product.start()
    init.wait_hit(seconds=60)
    commit.release()
    time.sleep(2.0)
    init.release()
    stage.recover()
    return ""


def advanced_slot(stage: Prey, rng: random.Random) -> str:
    """Somebody moves the slot while the process is down: it has to refuse."""
    stage.load.stop()
    expected = stage.load.expected()
    stage.witness.settle(expected)
    stage.product.term()
    # From here on it is not the product that confirms.
    stage.witness.sample_no_more()
    stage.database.execute("create table passed_over ()")
    stage.database.execute(f"select pg_replication_slot_advance('{stage.subject.slot}', pg_current_wal_lsn())")
    stage.product.start()
    deadline = time.monotonic() + 30
    while stage.product.running and time.monotonic() < deadline:
        time.sleep(0.1)
    if stage.product.running:
        return "the slot was moved past the checkpoint, and the process streams on"
    code = stage.product.wait()
    return "" if code == REFUSED else f"exit code {code} instead of a refusal"


def kill_between(stage: Prey, rng: random.Random) -> str:
    """The process dies right behind a commit."""
    for _ in range(3):
        stage.product.term()
        stage.armed = f"kafka.after_commit=kill@{rng.randint(3, 20)}"
        dying = stage.instance()
        stage.armed = ""
        dying.start()
        dying.wait(90)
        stage.product.start()
        stage.recover()
    return ""
