"""Harm to our own process: killed, ended, frozen, at moments that hurt; and a second one beside it."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from tests.nemesis.schedule import Fault
from tests.proxy.frames import Api
from tests.support.topics import Watch

if TYPE_CHECKING:
    from random import Random

    from tests.nemesis.stage import Stage
    from tests.proxy.rules import Rule

_COMMIT_S = 60.0
_BUSY_S = (0.0, 2.0)


def _kill(stage: Stage, rng: Random) -> None:
    """At any moment."""
    time.sleep(rng.uniform(*_BUSY_S))
    stage.kill()
    stage.product.start()


def _kill_in_transaction(stage: Stage, rng: Random) -> None:
    """As soon as a record of an open Kafka transaction can be seen."""
    with Watch(stage.kafka.direct, stage.topic) as watch:
        watch.wait()
        stage.kill()
    stage.product.start()


def _kill_in_start(stage: Stage, rng: Random) -> None:
    """Several times in a row, each while it is still starting."""
    for _ in range(rng.randint(2, 4)):
        if stage.product.running:
            stage.kill()
        stage.product.start()
        time.sleep(rng.uniform(0.2, 3.0))
    stage.kill()
    stage.product.start()


def _kill_with_commit(rule: Rule, stage: Stage, rng: Random) -> None:
    try:
        rule.wait_hit(seconds=_COMMIT_S)
        time.sleep(rng.uniform(0, 0.3))
        stage.kill()
    finally:
        # What never arrives, or arrives when a successor is already there.
        late = rng.random() < 0.5
        if not late:
            rule.discard()
        stage.product.start()
        if late:
            time.sleep(rng.uniform(0, 4.0))
            rule.release()


def _kill_unanswered(stage: Stage, rng: Random) -> None:
    """The commit is done, and its answer never seen."""
    _kill_with_commit(stage.kafka.hold_response(Api.EndTxn), stage, rng)


def _kill_uncommitted(stage: Stage, rng: Random) -> None:
    """The commit was sent and did not arrive, or not yet."""
    _kill_with_commit(stage.kafka.hold_request(Api.EndTxn), stage, rng)


def _end(stage: Stage, rng: Random) -> None:
    """SIGTERM, as an upgrade does."""
    time.sleep(rng.uniform(*_BUSY_S))
    code = stage.product.term()
    assert code == 0, f"exit code {code} after SIGTERM:\n{stage.product.tail()}"
    stage.product.start()


def _freeze(stage: Stage, rng: Random) -> None:
    """SIGSTOP, for less and for more than the server's patience."""
    time.sleep(rng.uniform(*_BUSY_S))
    os.kill(stage.product.pid, signal.SIGSTOP)
    try:
        time.sleep(rng.choice((0.3, 2.0, 5.0, 14.0)))
    finally:
        os.kill(stage.product.pid, signal.SIGCONT)


def _second(stage: Stage, rng: Random) -> None:
    """Two instances for a while; either may be the one that dies."""
    other = stage.instance()
    other.start()
    try:
        time.sleep(rng.uniform(1.0, 6.0))
        if rng.random() < 0.5:
            stage.take_over(other)
    finally:
        if other is not stage.product:
            other.close()


def _replaced_frozen(stage: Stage, rng: Random) -> None:
    """The process freezes, its stream is ended, another one takes over, and it wakes up beside it."""
    other, old = stage.instance(), stage.product
    os.kill(old.pid, signal.SIGSTOP)
    try:
        stage.database.execute("select pg_terminate_backend(pid) from pg_stat_replication")
        other.start()
        time.sleep(rng.uniform(3.0, 8.0))
    finally:
        os.kill(old.pid, signal.SIGCONT)
    time.sleep(rng.uniform(0.5, 3.0))
    stage.take_over(other)


FAULTS = (
    Fault("P21", "SIGKILL", "process", _kill),
    Fault("P4", "SIGKILL inside a Kafka transaction", "process", _kill_in_transaction, alone=True),
    Fault("P13", "SIGKILL while starting", "process", _kill_in_start),
    Fault("P9", "SIGKILL with the commit unanswered", "process", _kill_unanswered, alone=True),
    Fault("P8", "SIGKILL with the commit on its way", "process", _kill_uncommitted, alone=True),
    Fault("P22", "SIGTERM", "process", _end, alone=True),
    Fault("P23", "SIGSTOP", "process", _freeze, alone=True),
    Fault("X1", "a second instance", "process", _second, alone=True),
    Fault("P24", "replaced while frozen", "process", _replaced_frozen, alone=True),
)
