"""Which sink the commit policy could do without just now."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

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
    assert second.attachment.detach_if_dispensable("in this test") is True
    second.attachment.attach()
    made.reports[first.id] = ("detached", "it stands behind the slot")
    assert second.attachment.detach_if_dispensable("in this test") is False
    # WHEN the other one works again
    made.reports[first.id] = ("running", "")
    assert second.attachment.detach_if_dispensable("in this test") is True
