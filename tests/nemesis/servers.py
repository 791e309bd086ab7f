"""Harm to the servers: brokers and PostgreSQL killed, frozen, restarted, and answers of Kafka that never come."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from typing import TYPE_CHECKING

from tests.nemesis.schedule import Fault
from tests.proxy.frames import Api

if TYPE_CHECKING:
    from random import Random

    from tests.nemesis.stage import Stage

_DOWN_S = (0.0, 4.0)


def _broker(stage: Stage, rng: Random) -> int:
    return rng.choice(stage.kafka.cluster.nodes).node_id


def _kill_broker(stage: Stage, rng: Random) -> None:
    node = _broker(stage, rng)
    stage.kafka.cluster.kill_node(node)
    time.sleep(rng.uniform(*_DOWN_S))
    stage.kafka.cluster.start_node(node)


def _restart_broker(stage: Stage, rng: Random) -> None:
    node = _broker(stage, rng)
    stage.kafka.cluster.stop_node(node)
    time.sleep(rng.uniform(*_DOWN_S))
    stage.kafka.cluster.start_node(node)


def _freeze_broker(stage: Stage, rng: Random) -> None:
    pid = stage.kafka.cluster.node(_broker(stage, rng)).pid
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(rng.choice((0.5, 2.0, 6.0, 12.0)))
    finally:
        os.kill(pid, signal.SIGCONT)


def _unanswered(stage: Stage, rng: Random) -> None:
    """The broker does what it is asked, and its answers to one kind of request are lost for a while."""
    api = rng.choice((Api.EndTxn, Api.AddPartitionsToTxn, Api.Produce, Api.InitProducerId, Api.FindCoordinator))
    rule = stage.kafka.drop_response(api, nth=None)
    time.sleep(rng.uniform(0.5, 3.0))
    rule.release()
    # The client waits for those answers until its connection ends.
    for proxy in stage.kafka.proxies:
        proxy.cut()


def _late(stage: Stage, rng: Random) -> None:
    """One request, or its answer, is held for a while."""
    api = rng.choice((Api.EndTxn, Api.AddPartitionsToTxn, Api.Produce))
    hold = rng.choice((stage.kafka.hold_request, stage.kafka.hold_response))
    rule = hold(api)
    time.sleep(rng.choice((0.3, 1.0, 3.0, 7.0)))
    rule.release()


def _restart_postgres(stage: Stage, rng: Random, *, immediate: bool) -> None:
    stage.postgres.stop(immediate=immediate)
    time.sleep(rng.uniform(*_DOWN_S))
    stage.postgres.start()


def _end_walsender(stage: Stage, rng: Random) -> None:
    for _ in range(rng.randint(1, 3)):
        stage.database.execute("select pg_terminate_backend(pid) from pg_stat_replication")
        time.sleep(rng.uniform(0, 1.0))


def _end_control(stage: Stage, rng: Random) -> None:
    stage.database.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where application_name like 'deltaforge%' and backend_type = 'client backend'"
    )


def _stop_postgres_without_kafka(stage: Stage, rng: Random) -> None:
    """PostgreSQL shuts down while nothing can be confirmed, because Kafka is away."""
    node = _broker(stage, rng)
    stage.kafka.cluster.kill_node(node)
    time.sleep(rng.uniform(0.5, 2.0))
    stage.postgres.stop()
    stage.postgres.start()
    stage.kafka.cluster.start_node(node)


BROKER = (
    Fault("K1", "a broker killed", "broker", _kill_broker),
    Fault("K2", "a broker restarted", "broker", _restart_broker),
    Fault("K4", "a broker frozen", "broker", _freeze_broker, alone=True),
    Fault("K3", "answers of one kind lost", "broker", _unanswered),
    Fault("K5", "a request or an answer held", "broker", _late),
)
POSTGRES = (
    Fault("G1", "PostgreSQL restarted", "postgres", partial(_restart_postgres, immediate=False)),
    Fault("G1", "PostgreSQL crashed", "postgres", partial(_restart_postgres, immediate=True)),
    Fault("G3", "the walsender ended", "postgres", _end_walsender),
    Fault("G3", "the control session ended", "postgres", _end_control),
    Fault("G2", "PostgreSQL stopped while Kafka is away", "postgres", _stop_postgres_without_kafka, alone=True),
)
