"""What the benchmark measures, with which settings, and how it tells; nothing runs here."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from deltaforge.model import Lsn
from tests.benchmarks import peers, report
from tests.benchmarks.__main__ import PROGRAMS, arguments, programs
from tests.benchmarks.connect import settings
from tests.benchmarks.drain import AT_LEAST_ONCE, EXACTLY_ONCE, RECVLOGICAL, Run
from tests.benchmarks.peers import DEBEZIUM
from tests.benchmarks.workloads import HUGE, WORKLOADS
from tests.support.pipelines import kafka_config, seed

if TYPE_CHECKING:
    from tests.benchmarks.drain import Site

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "benchmarks.md"


def seconds(taken: float) -> Run:
    return Run(taken, 2 * taken, 100 * 2**20, 1.0, 0.5, 0.1)


def cells(table: str, program: str) -> dict[str, str]:
    """The line of a program, by column."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    return next(dict(zip(lines[0], line, strict=True)) for line in lines if program in line)


@pytest.fixture
def connector() -> dict[str, str]:
    site = SimpleNamespace(postgres=SimpleNamespace(host="127.0.0.1", port=5432))
    return peers.options(cast("Site", site), "bench_7", peers.DRAINING)


def test_peers_run_only_when_asked_for() -> None:
    """Guards against downloads and minutes that nobody wanted."""
    assert arguments().parse_args([]).peers is False
    assert all(DEBEZIUM not in programs(workload.name, with_peers=False) for workload in (*WORKLOADS, HUGE))


def test_peers_take_their_turn_after_the_others_on_the_workloads_they_are_compared_on() -> None:
    """Guards against a figure of Debezium that was taken at another time than the ones beside it."""
    assert arguments().parse_args(["--peers"]).peers is True
    joined = {workload.name for workload in (*WORKLOADS, HUGE) if DEBEZIUM in programs(workload.name, with_peers=True)}
    assert joined == {"batch", "single"}
    assert programs("batch", with_peers=True) == (*PROGRAMS, DEBEZIUM)


def test_the_page_has_every_option() -> None:
    """Guards against an option that only its source knows."""
    page = PAGE.read_text()
    named = [word for action in arguments()._actions for word in action.option_strings if word.startswith("--")]
    assert [word for word in named if f"`{word}" not in page] == ["--help"]


def test_the_page_tells_what_debezium_was_tuned_with() -> None:
    """Guards against a comparison whose other side cannot be judged."""
    page = PAGE.read_text()
    told = [*peers.TUNED.items(), *peers.DRAINING.items(), *peers.STREAMING.items()]
    assert [f"{key}={value}" for key, value in told if f"`{key}={value}`" not in page] == []


def test_debezium_writes_exactly_once() -> None:
    """Guards against comparing with a Debezium that promises less."""
    assert settings()["exactly.once.source.support"] == "enabled"
    assert peers.TUNED["exactly.once.support"] == "required"


def test_debezium_reads_the_slot_it_was_given_from_where_it_stands(connector: dict[str, str]) -> None:
    """Guards against a snapshot, which would read other rows faster."""
    assert (connector["slot.name"], connector["snapshot.mode"]) == ("bench_7", "no_data")
    assert connector["publication.autocreate.mode"] == "disabled"


def test_debezium_leaves_schemas_out_of_every_record(connector: dict[str, str]) -> None:
    """Guards against settings that Connect ignores because no converter is named beside them: records of many kB."""
    for side in ("key", "value"):
        assert connector[f"{side}.converter"].endswith("JsonConverter")
        assert connector[f"{side}.converter.schemas.enable"] == "false"


def test_both_producers_are_told_the_same(connector: dict[str, str]) -> None:
    """Guards against a producer that wins by its settings."""
    conf = kafka_config(seed())["client_conf"]
    told = {key.removeprefix("producer.override."): value for key, value in connector.items()}
    assert {key: told[key] for key in peers.SHARED} == {key: conf[key] for key in peers.SHARED}
    assert {"compression.type", "linger.ms", "batch.size", "acks"} <= set(peers.SHARED)


def test_the_clock_follows_the_offsets_of_its_own_connector() -> None:
    """Guards against stopping at the last row of the round before."""
    value = json.dumps({"lsn_proc": 9, "lsn": 23_456, "txId": 7, "ts_usec": 1}).encode()

    def key(prefix: str) -> bytes:
        return json.dumps([prefix, {"server": prefix}]).encode()

    assert peers.offset_of("bench_7", key("bench_7"), value) == Lsn(23_456)
    assert peers.offset_of("bench_7", key("bench_6"), value) is None
    assert peers.offset_of("bench_7", key("bench_7"), b"") is None


def test_the_table_says_how_many_times_as_fast_as_debezium() -> None:
    """Guards against a requirement whose figure has to be worked out by hand."""
    runs = {RECVLOGICAL: [seconds(1)], AT_LEAST_ONCE: [seconds(1)], EXACTLY_ONCE: [seconds(2)], DEBEZIUM: [seconds(9)]}
    table = report.text({}, [report.Throughput("batch", "rows", 1_000_000, runs)], {})
    assert cells(table, DEBEZIUM)["rows/s"] == "111,111"
    assert cells(table, DEBEZIUM)["of pg_recvlogical"] == "0.11"
    assert cells(table, DEBEZIUM)["CPU s per 1M rows"] == "18.0"
    assert cells(table, DEBEZIUM)["peak RSS MiB"] == "100"
    assert cells(table, EXACTLY_ONCE)["of Debezium"] == "4.50"
    assert cells(table, RECVLOGICAL)["of Debezium"] == ""


def test_the_table_of_a_run_without_peers_does_not_speak_of_them() -> None:
    """Guards against a column that is always empty."""
    runs = {RECVLOGICAL: [seconds(1)], EXACTLY_ONCE: [seconds(2)]}
    assert "Debezium" not in report.text({}, [report.Throughput("batch", "rows", 1000, runs)], {})
