"""Which sink the commit policy could do without just now."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from deltaforge.config.load import load_bytes
from deltaforge.graph import Graph
from deltaforge.metrics import PipelineMetrics
from deltaforge.runtime import RunOptions

QUORUM = b"""
apiVersion: deltaforge/v1
kind: Pipeline
metadata: {name: spared}
spec:
  source:
    type: postgres
    config: {id: s, dsn: "postgres://u@127.0.0.1/d", slot: s, publication: p, tables: [public.t]}
  sinks:
    - {type: memory, config: {id: a}}
    - {type: memory, config: {id: b}}
  commit_policy: {mode: quorum, quorum: 1}
"""


def graph() -> Graph:
    config = load_bytes(QUORUM, Path("spared.yaml"), {}).require()
    control = cast("Any", type("Control", (), {"slot_state": None}))
    return Graph(config, PipelineMetrics("spared"), RunOptions(), control, instance="me", said=lambda: None)


def test_a_sink_that_parked_itself_does_not_count_towards_a_quorum() -> None:
    """Guards against detaching the only sink that still works: everything would be read and nothing ever confirmed."""
    made = graph()
    first, second = made.units
    made.reports[first.id] = ("detached", "it stands behind the slot")
    assert second.attachment.detach_if_dispensable("in this test") is False
    # WHEN the other one works again
    made.reports[first.id] = ("running", "")
    assert second.attachment.detach_if_dispensable("in this test") is True


@pytest.mark.parametrize("state", ["starting", "waiting", "blocked"])
def test_a_sink_that_delivers_nothing_yet_does_not_count_towards_a_quorum(state: str) -> None:
    """Guards against leaving a slow sink behind for one whose Kafka is away."""
    made = graph()
    first, second = made.units
    made.reports[first.id] = (state, "")
    assert second.attachment.detach_if_dispensable("in this test") is False


def test_a_sink_behind_its_slot_parks_alone_while_the_other_is_left_behind_for_a_while() -> None:
    """Guards against a pipeline that ends although one of its sinks would come back with the next epoch."""
    made = graph()
    first, second = made.units
    made.reports[first.id] = ("running", "")
    assert second.attachment.detach_if_dispensable("in this test") is True
    assert made.reports[second.id][0] == "detached"
    assert first.actor._w.spared() is True
    # WHEN the next epoch begins, in which the other one has not said anything yet
    second.attachment.attach()
    made.reports[first.id] = ("starting", "")
    assert first.actor._w.spared() is True
    # AND WHEN the other one is parked for good
    made.reports[second.id] = ("detached", "it stands behind the slot")
    assert first.actor._w.spared() is False


def test_nobody_is_left_behind_for_a_sink_that_has_not_passed_its_guard_in_this_epoch() -> None:
    """Guards against a pipeline that stands still: that sink finds itself behind the slot, and nobody else is left."""
    made = graph()
    first, second = made.units
    first.gate.set(1)
    made.epoch.set(2)
    made.reports[first.id] = ("running", "")
    assert second.attachment.detach_if_dispensable("in this test") is False
    first.gate.set(2)
    assert second.attachment.detach_if_dispensable("in this test") is True


def test_a_sink_that_parks_itself_brings_back_whom_it_stood_in_for() -> None:
    """Guards against a pipeline that stands still: one sink is left behind, and the only other one is parked."""
    made = graph()
    first, second = made.units
    made.epoch.set(1)
    first.gate.set(1)
    first.actor._report("running")
    assert second.attachment.detach_if_dispensable("in this test") is True
    assert made.rewind.value == 0
    first.actor._report("detached", "it stands behind the slot")
    assert made.rewind.value == 1
    # WHEN it parks itself again in the next epoch, in which the other one takes part
    made.epoch.set(2)
    made.budget.reset(2)
    first.actor._report("detached", "it stands behind the slot")
    assert made.rewind.value == 1
