"""Metric names are an interface: dashboards and alerts are built on them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deltaforge import metrics
from deltaforge.metrics import PipelineMetrics

PAGE = Path(__file__).resolve().parents[2] / "docs" / "observability.md"


def _samples(pipeline: str) -> dict[str, float]:
    lines = metrics.exposition("ok").decode().splitlines()
    found = [line.rpartition(" ") for line in lines if f'pipeline="{pipeline}"' in line]
    return {name: float(value) for name, _, value in found}


def test_the_four_metrics_of_the_production_example_keep_their_names() -> None:
    """Guards against dashboards that go blank after an update."""
    sink = PipelineMetrics("names", "acme").sink("kafka")
    sink.events_sent(3)
    sink.observe_latency(0.2)
    sink.error("fenced")
    sink.lag(7)

    samples = _samples("names")

    labels = 'pipeline="names",sink="kafka",tenant="acme"'
    assert samples[f"deltaforge_sink_events_sent_total{{{labels}}}"] == 3
    assert samples[f"deltaforge_sink_send_latency_seconds_count{{{labels}}}"] == 1
    assert samples[f'deltaforge_sink_errors_total{{kind="fenced",{labels}}}'] == 1
    assert samples[f"deltaforge_checkpoint_lag_events{{{labels}}}"] == 7


def test_series_exist_before_the_first_event() -> None:
    """Guards against a rate() that misses the first increment, and alerts on absent series."""
    PipelineMetrics("fresh").sink("kafka")

    samples = _samples("fresh")

    zero = 'pipeline="fresh",sink="kafka",tenant=""'
    for name in ("sink_events_sent_total", "sink_transactions_committed_total", "sink_transactions_aborted_total"):
        assert samples[f"deltaforge_{name}{{{zero}}}"] == 0
    assert samples['deltaforge_received_events_total{pipeline="fresh",tenant=""}'] == 0


def test_exactly_one_pipeline_state_is_one() -> None:
    """Guards against a pipeline that looks running and failed at once."""
    pipeline = PipelineMetrics("stateful")
    pipeline.state("running")
    pipeline.state("blocked")

    states = {name: value for name, value in _samples("stateful").items() if "pipeline_state" in name}

    assert [name for name, value in states.items() if value] == [
        'deltaforge_pipeline_state{pipeline="stateful",state="blocked",tenant=""}'
    ]


def test_every_other_measure_moves() -> None:
    """Guards against a method that sets the wrong series."""
    pipeline = PipelineMetrics("moves", "t")
    sink = pipeline.sink("s")
    assert pipeline.sink("s") is sink
    pipeline.received(5, 700)
    pipeline.epoch(2)
    pipeline.slot_retained(4096)
    pipeline.budget(10, 100)
    pipeline.channel_fill("reader>assembler", 2, 8)
    pipeline.actor("batcher")
    pipeline.restarted("reader")
    pipeline.retried("reader")
    sink.committed()
    sink.aborted()
    sink.lag(1, nbytes=2, seconds=3.5)
    sink.lag(0)

    samples = {name.removeprefix("deltaforge_"): value for name, value in _samples("moves").items()}

    both, sunk = 'pipeline="moves",tenant="t"', 'pipeline="moves",sink="s",tenant="t"'
    assert samples[f"received_events_total{{{both}}}"] == 5
    assert samples[f"received_bytes_total{{{both}}}"] == 700
    assert samples[f"pipeline_epoch{{{both}}}"] == 2
    assert samples[f"slot_retained_bytes{{{both}}}"] == 4096
    assert samples[f"budget_used_bytes{{{both}}}"] == 10
    assert samples[f"budget_limit_bytes{{{both}}}"] == 100
    assert samples[f'channel_fill_ratio{{channel="reader>assembler",{both}}}'] == 0.25
    assert samples[f'actor_restarts_total{{actor="batcher",{both}}}'] == 0
    assert samples[f'actor_restarts_total{{actor="reader",{both}}}'] == 1
    assert samples[f'actor_retries_total{{actor="reader",{both}}}'] == 1
    assert samples[f"sink_transactions_committed_total{{{sunk}}}"] == 1
    assert samples[f"sink_transactions_aborted_total{{{sunk}}}"] == 1
    assert samples[f"checkpoint_lag_events{{{sunk}}}"] == 0
    assert samples[f"checkpoint_lag_bytes{{{sunk}}}"] == 2
    assert samples[f"checkpoint_lag_seconds{{{sunk}}}"] == 3.5


def test_build_info_and_health_have_one_series_each() -> None:
    """Guards against a stale label that stays beside the new one."""
    metrics.build_info("compiled")
    metrics.build_info("python")
    metrics.exposition("failed")
    text = metrics.exposition("degraded").decode()

    assert re.findall(r"^deltaforge_build_info\{(.*?),", text, re.M) == ['encoder="python"']
    assert re.findall(r"^deltaforge_health\{(.*?)\}", text, re.M) == ['state="degraded"']


@pytest.mark.fault("X4")
def test_no_label_is_the_name_of_anything_in_a_database() -> None:
    """Guards against a page that grows with the tables, of which there may be thousands."""
    pipeline = PipelineMetrics("labelled")
    pipeline.sink("kafka").error("fenced")
    metrics.build_info("python")
    metrics.exposition("ok")

    labels = {label for family in metrics.REGISTRY.collect() for one in family.samples for label in one.labels}

    ours = {"version", "encoder", "state", "pipeline", "tenant", "sink", "kind", "channel", "actor"}
    assert {"pipeline", "tenant", "sink", "kind", "le"} <= labels <= ours | {"le"}


def test_the_state_word_alone_shows_no_pipeline() -> None:
    """Guards against names of pipelines for callers without the token."""
    PipelineMetrics("hidden")

    lines = metrics.state_only("ok").decode().splitlines()

    assert [line for line in lines if not line.startswith("#")] == ['deltaforge_health{state="ok"} 1.0']


def test_the_manual_names_every_metric_and_no_other() -> None:
    """Guards against a metric that can only be found in the code."""
    registered = {family.name for family in metrics.REGISTRY.collect()}
    documented = set(re.findall(r"`(deltaforge_[a-z_]+)`", PAGE.read_text()))

    assert {name.removesuffix("_total") for name in documented} == registered
