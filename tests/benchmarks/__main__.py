"""Throughput, memory and latency of deltaforge on this machine, beside pg_recvlogical: docs/reference/benchmarks.md.

Run: python -m tests.benchmarks [--workload NAME]... [--rows 1000000] [--rounds 5] [--codec python|compiled] [--peers]
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from deltaforge.embedded.kafka import KafkaCluster
from deltaforge.embedded.postgres import PostgresServer
from tests.benchmarks import latency, peers, report
from tests.benchmarks.backlog import Backlog
from tests.benchmarks.connect import HEAP_MB, DistributedWorker
from tests.benchmarks.drain import AT_LEAST_ONCE, EXACTLY_ONCE, RECVLOGICAL, Run, Site, drain
from tests.benchmarks.peers import DEBEZIUM
from tests.benchmarks.workloads import HUGE, WORKLOADS, Workload
from tests.support.process import REPOSITORY

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

PROGRAMS = (RECVLOGICAL, AT_LEAST_ONCE, EXACTLY_ONCE)
WARM_UP_ROWS = 200_000
_WARM_UP_TRANSACTIONS = 2000
# Nothing happens in the background while the clock runs.
_POSTGRES = {
    "max_wal_size": "64GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "shared_buffers": "512MB",
}
# As Kafka's own start script; the embedded broker is made for quick starts instead.
_JAVA = ("-XX:-UseSerialGC", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:TieredStopAtLevel=4")
_HEAP_MB = 1024
_NAMED = {workload.name: workload for workload in WORKLOADS}
_numbers = itertools.count()


def main() -> None:
    """Run what was asked for and print its tables."""
    options = arguments().parse_args()
    results: list[report.Throughput] = []
    latencies: dict[str, latency.Latency] = {}
    with (
        tempfile.TemporaryDirectory(prefix="deltaforge-benchmark-") as folder,
        PostgresServer(options=_POSTGRES) as postgres,
        KafkaCluster(java_options=_JAVA, heap_mb=_HEAP_MB) as kafka,
        _connect(Path(folder), kafka.bootstrap(), wanted=options.peers) as connect,
    ):
        site = Site(Path(folder), postgres, kafka, options.codec, connect)
        described = report.machine(_versions(site))
        _warm_up(site, min(options.rows, WARM_UP_ROWS))
        for name in options.workload or [*_NAMED, "latency"]:
            if name == "latency":
                latencies |= _latencies(site, latency.Load(options.seconds, options.rate))
            else:
                results += _throughput(site, name, options.rows, options.rounds)
            if options.json is not None:
                report.save(options.json, report.document(described, results, latencies))
    print(report.text(described, results, latencies), end="")


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=_positive, default=1_000_000, help="rows of `batch`, others in proportion")
    parser.add_argument("--rounds", type=_positive, help="runs of each program, in turn (default 5; huge 1)")
    names = [*_NAMED, "latency", HUGE.name]
    parser.add_argument("--workload", choices=names, action="append", help=f"may be repeated; all but {HUGE.name}")
    parser.add_argument("--codec", choices=("python", "compiled"), default="", help="which one deltaforge has to use")
    parser.add_argument("--seconds", type=_positive, default=30, help="how long `latency` measures (default 30)")
    parser.add_argument("--rate", type=_positive, default=1000, help="transactions in each of them (default 1000)")
    parser.add_argument("--json", type=Path, help="write every single run to this file")
    parser.add_argument("--peers", action="store_true", help="measure a live Debezium as well; fetched on first use")
    return parser


def programs(workload: str, *, with_peers: bool) -> tuple[str, ...]:
    """Who drains a workload, in turn."""
    if workload == HUGE.name:
        return (RECVLOGICAL, EXACTLY_ONCE)
    return (*PROGRAMS, DEBEZIUM) if with_peers and workload in peers.WORKLOADS else PROGRAMS


def _positive(word: str) -> int:
    if (number := int(word)) < 1:
        raise argparse.ArgumentTypeError("has to be at least 1")
    return number


def _connect(folder: Path, bootstrap: str, *, wanted: bool) -> AbstractContextManager[DistributedWorker | None]:
    if not wanted:
        return nullcontext()
    _say("starting Kafka Connect, which is fetched on first use")
    return DistributedWorker(folder / "connect", bootstrap)


def _warm_up(site: Site, rows: int) -> None:
    _say("warming up the broker")
    _compare(site, WORKLOADS[0], rows, 1, (EXACTLY_ONCE,))
    if site.connect is not None:
        _say("warming up Debezium")
        _compare(site, WORKLOADS[0], rows, peers.WARM_UPS, (DEBEZIUM,))


def _throughput(site: Site, name: str, rows: int, rounds: int | None) -> list[report.Throughput]:
    wanted = programs(name, with_peers=site.connect is not None)
    if name == HUGE.name:
        return [_compare(site, HUGE, count, rounds or 1, wanted) for count in (rows, 10 * rows)]
    return [_compare(site, _NAMED[name], _NAMED[name].rows(rows), rounds or 5, wanted)]


def _compare(site: Site, workload: Workload, rows: int, rounds: int, programs: tuple[str, ...]) -> report.Throughput:
    """Load the backlog once, then let the programs drain it in turn."""
    runs: dict[str, list[Run]] = {program: [] for program in programs}
    with Backlog(site.postgres.dsn(), workload) as backlog:
        _say(f"{workload.name}: loading {rows:,} rows")
        backlog.begin(rows)
        backlog.load(rows)
        for number in range(1, rounds + 1):
            for program in programs:
                run = _drain(site, program, backlog, next(_numbers), rows)
                runs[program].append(run)
                _say(
                    f"{workload.name} {number}/{rounds}: {program} {rows / run.seconds:,.0f} rows/s,"
                    f" {run.cpu_s / rows * 1e6:.1f} CPU s per 1M rows, {run.peak_rss / 2**20:.0f} MiB"
                )
    return report.Throughput(workload.name, workload.title, rows, runs)


def _drain(site: Site, program: str, backlog: Backlog, number: int, rows: int) -> Run:
    if program == DEBEZIUM:
        return peers.drain(site, backlog, number, rows)
    return drain(site, program, backlog, number, rows)


def _latencies(site: Site, load: latency.Load) -> dict[str, latency.Latency]:
    found = {}
    _say("latency: warming up the broker")
    latency.warm_up(site, _WARM_UP_TRANSACTIONS)
    for program in (latency.BARE, EXACTLY_ONCE, AT_LEAST_ONCE, *((DEBEZIUM,) if site.connect is not None else ())):
        _say(f"latency: {load.per_second} transactions a second for {load.seconds} s, {program}")
        found[program] = latency.measure(site, program, next(_numbers), load)
        _say(f"latency: p50 {found[program].p50:.1f} ms, p99 {found[program].p99:.1f} ms")
    return found


def _versions(site: Site) -> dict[str, str]:
    asked = [sys.executable, "-m", "deltaforge", "--version"]
    environment = {**os.environ, **site.environment}
    shown = subprocess.run(asked, capture_output=True, text=True, cwd=REPOSITORY, env=environment, check=True).stdout
    server = subprocess.run(
        [site.postgres.bin_dir / "postgres", "--version"], capture_output=True, text=True, check=True
    ).stdout
    return {
        "servers": f"{server.strip()} and Kafka 4.1, one broker, on the same machine",
        "deltaforge": shown.strip(),
        **({"Debezium": f"{peers.VERSIONS}, heap of {HEAP_MB} MiB"} if site.connect is not None else {}),
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
