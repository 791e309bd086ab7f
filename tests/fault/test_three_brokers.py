"""A cluster of three under load: brokers restarted in turn, the coordinator killed, leaders moved, replicas missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fault.sizes import FULL
from tests.fault.stages import Gaps, LoadedStage
from tests.nemesis.stage import Servers
from tests.proxy.cluster import ProxiedKafka
from tests.proxy.frames import Api
from tests.support.orders import wait_until
from tests.support.replicas import (
    TRANSACTION_STATE,
    coordinator,
    create_on,
    move_leaders,
    wait_coordinator,
    wait_in_sync,
    wait_replicas,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.proxy.rules import Rule

pytestmark = pytest.mark.slow

# A killed broker is given up, and may come back, after so long.
QUICK_FAILOVER = {"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}
HOLD_S = 60.0
BOUNCES = (("clean",) * 3, ("hard",) * 3) if FULL else (("hard",),)
"""How each broker in turn is ended."""


@pytest.fixture(scope="module")
def servers(kafka_jars: None) -> Iterator[Servers]:
    """PostgreSQL and three brokers, behind proxies."""
    with Servers(kafka=ProxiedKafka(3, options=QUICK_FAILOVER)) as made:
        yield made


@pytest.fixture
def make_stage(servers: Servers, tmp_path: Path) -> Iterator[Callable[..., LoadedStage]]:
    """Gives the stage to enter; afterwards everything runs again."""
    yield lambda seed, kind=LoadedStage, **sink: kind(servers, "three", seed, tmp_path, **sink)
    servers.heal()
    wait_in_sync(servers.kafka.direct)


@pytest.mark.fault("K2")
@pytest.mark.parametrize("hows", BOUNCES, ids="-".join)
def test_brokers_restarted_one_after_the_other_lose_and_repeat_nothing(
    make_stage: Callable[..., LoadedStage], hows: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards an upgrade of the cluster: leaders and coordinator move three times, with requests under way each time."""
    with make_stage(seed=21) as stage:
        cluster = stage.kafka.cluster
        stage.recover()
        with Gaps(stage.witness) as gaps:
            # WHEN each broker in turn is stopped, or killed, and started again
            for number, how in enumerate(hows, start=1):
                (cluster.stop_node if how == "clean" else cluster.kill_node)(number)
                cluster.start_node(number)
                wait_in_sync(stage.kafka.direct)
            # THEN the pipeline goes on by itself
            stage.recover()
        aborts = stage.aborts()
        verdict = stage.settle()
    with capsys.disabled():
        print(f"\n{hows}: longest wait for an event {gaps.longest_s:.1f} s, {aborts} epochs given up; {verdict}")
    assert verdict.clean, str(verdict)


def _rule(stage: LoadedStage, moment: str) -> Rule:
    """Holds what the coordinator is asked, or answers, at that moment."""
    kafka = stage.kafka
    return {
        "begin": lambda: kafka.hold_request(Api.AddPartitionsToTxn),
        "begun": lambda: kafka.hold_response(Api.AddPartitionsToTxn),
        "produce": lambda: kafka.hold_request(Api.Produce),
        "commit not done": lambda: kafka.hold_request(Api.EndTxn),
        "commit done": lambda: kafka.hold_response(Api.EndTxn),
    }[moment]()


MOMENTS = ("commit done", "commit not done", "produce", "begin", "begun") if FULL else ("commit done",)


@pytest.mark.fault("K3")
@pytest.mark.parametrize("moment", MOMENTS)
def test_the_coordinator_may_die_at_any_moment_of_a_transaction(
    make_stage: Callable[..., LoadedStage], moment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards the outcome of a commit that died with its coordinator: done or not, its successor must be believed."""
    with make_stage(seed=31) as stage:
        kafka = stage.kafka
        stage.recover()
        # GIVEN a transaction at that moment
        rule = _rule(stage, moment)
        rule.wait_hit(seconds=HOLD_S)
        # WHEN its coordinator is killed
        node = coordinator(kafka.direct, stage.subject.transactional_id)
        kafka.cluster.kill_node(node)
        rule.release()
        # THEN the pipeline goes on with another one
        wait_coordinator(kafka.direct, stage.subject.transactional_id, lambda found: found != node)
        stage.recover()
        kafka.cluster.start_node(node)
        wait_in_sync(kafka.direct)
        aborts = stage.aborts()
        verdict = stage.settle()
    with capsys.disabled():
        seconds = stage.recovered_s[-1]
        print(f"\n{moment}: next event after {seconds:.1f} s, {aborts} epochs given up; {verdict}")
    assert verdict.clean, str(verdict)


@pytest.mark.fault("K6")
def test_leaders_that_move_are_followed(
    make_stage: Callable[..., LoadedStage], capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards against a row sent to the old leader and again to the new one, and a commit to a coordinator that was."""
    with make_stage(seed=61) as stage:
        stage.recover()
        with Gaps(stage.witness) as gaps:
            # WHEN every partition gets another leader, that of the coordinator's log included
            for _ in range(4 if FULL else 1):
                move_leaders(stage.kafka.cluster, [stage.topic, stage.subject.checkpoints, TRANSACTION_STATE])
                stage.recover()
        aborts = stage.aborts()
        verdict = stage.settle()
    with capsys.disabled():
        print(f"\nleaders moved: longest wait {gaps.longest_s:.1f} s, {aborts} epochs given up; {verdict}")
    assert verdict.clean, str(verdict)


class _OnTwoNodes(LoadedStage):
    """Every partition of the data topic is on nodes 1 and 2, and has to be on both."""

    def make_topic(self, name: str) -> str:
        return create_on(self.kafka.direct, name, [(1, 2), (2, 1), (1, 2)], {"min.insync.replicas": "2"})


if FULL:

    @pytest.mark.fault("K6")
    def test_too_few_replicas_in_sync_are_waited_for(
        make_stage: Callable[..., LoadedStage], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Guards against rows that only one broker has, and against giving up on brokers that are short of one."""
        with make_stage(seed=62, kind=_OnTwoNodes, send_timeout_secs=5) as stage:
            kafka, before = stage.kafka, stage.aborts()
            stage.recover()
            # WHEN one of the two nodes is killed
            kafka.cluster.kill_node(2)
            wait_replicas(
                kafka.direct,
                lambda now: all(found.isrs == [1] for place, found in now.items() if place[0] == stage.topic),
                "one replica in sync",
            )
            # THEN nothing is taken, and the pipeline gives up its epoch, says so and confirms nothing
            wait_until(lambda: stage.aborts() > before, "an epoch is given up", stage.alive)
            stage.wait_told("starting", "Kafka")
            # The next epoch cannot begin: what the last one left open can be ended in no partition either.
            seen, asked = stage.confirmed(), kafka.requests(Api.InitProducerId)
            wait_until(lambda: kafka.requests(Api.InitProducerId) > asked, "it tries to begin another", stage.alive)
            assert stage.confirmed() == seen
            # AND goes on when the node is back
            kafka.cluster.start_node(2)
            stage.recover()
            wait_until(lambda: stage.view()["state"] == "running", "it runs", stage.alive)
            aborts = stage.aborts()
            verdict = stage.settle()
        with capsys.disabled():
            seconds = stage.recovered_s[-1]
            print(f"\nreplica missing: next event {seconds:.1f} s after its start, {aborts} given up; {verdict}")
        assert verdict.clean, str(verdict)
