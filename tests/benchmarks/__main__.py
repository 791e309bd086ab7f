"""Throughput, memory and latency of deltaforge on this machine, beside pg_recvlogical: docs/reference/benchmarks.md.

Run: python -m tests.benchmarks [--workload NAME]... [--rows 1000000] [--rounds 5] [--codec python|compiled]
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from deltaforge.embedded.kafka import KafkaCluster
from deltaforge.embedded.postgres import PostgresServer
from tests.benchmarks import latency, report
from tests.benchmarks.backlog import Backlog
from tests.benchmarks.drain import AT_LEAST_ONCE, EXACTLY_ONCE, RECVLOGICAL, Run, Site, drain
from tests.benchmarks.workloads import HUGE, WORKLOADS, Workload
from tests.support.process import REPOSITORY

PROGRAMS = (RECVLOGICAL, AT_LEAST_ONCE, EXACTLY_ONCE)
WARM_UP_ROWS = 200_000
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
_numbers = itertools.count()


def main() -> None:
    """Run what was asked for and print its tables."""
    options = _options()
    named = {workload.name: workload for workload in WORKLOADS}
    wanted = options.workload or [*named, "latency"]
    results: list[report.Throughput] = []
    latencies: dict[str, latency.Latency] = {}
    with (
        tempfile.TemporaryDirectory(prefix="deltaforge-benchmark-") as folder,
        PostgresServer(options=_POSTGRES) as postgres,
        KafkaCluster(java_options=_JAVA, heap_mb=_HEAP_MB) as kafka,
    ):
        site = Site(Path(folder), postgres, kafka, options.codec)
        described = report.machine(_versions(site))
        _say("warming up the broker")
        _compare(site, WORKLOADS[0], min(options.rows, WARM_UP_ROWS), 1, (EXACTLY_ONCE,))
        for name in wanted:
            if name in named:
                rows = named[name].rows(options.rows)
                results.append(_compare(site, named[name], rows, options.rounds or 5, PROGRAMS))
            elif name == HUGE.name:
                for rows in (options.rows, 10 * options.rows):
                    results.append(_compare(site, HUGE, rows, options.rounds or 1, (RECVLOGICAL, EXACTLY_ONCE)))
            else:
                latencies |= _latencies(site, options.seconds)
            if options.json is not None:
                report.save(options.json, report.document(described, results, latencies))
    print(report.text(described, results, latencies), end="")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=(__doc__ or "").partition("\n")[0])
    names = [*(workload.name for workload in WORKLOADS), "latency", HUGE.name]
    parser.add_argument("--rows", type=_positive, default=1_000_000, help="rows of `batch`, others in proportion")
    parser.add_argument("--rounds", type=_positive, help="runs of each program, in turn (default 5; huge 1)")
    parser.add_argument("--workload", choices=names, action="append", help=f"may be repeated; all but {HUGE.name}")
    parser.add_argument("--codec", choices=("python", "compiled"), default="", help="which one deltaforge has to use")
    parser.add_argument("--seconds", type=_positive, default=30, help="how long `latency` measures (default 30)")
    parser.add_argument("--json", type=Path, help="write every single run to this file")
    return parser.parse_args()


def _positive(word: str) -> int:
    if (number := int(word)) < 1:
        raise argparse.ArgumentTypeError("has to be at least 1")
    return number


def _compare(site: Site, workload: Workload, rows: int, rounds: int, programs: tuple[str, ...]) -> report.Throughput:
    """Load the backlog once, then let the programs drain it in turn."""
    runs: dict[str, list[Run]] = {program: [] for program in programs}
    with Backlog(site.postgres.dsn(), workload) as backlog:
        _say(f"{workload.name}: loading {rows:,} rows")
        backlog.begin(rows)
        backlog.load(rows)
        for number in range(1, rounds + 1):
            for program in programs:
                run = drain(site, program, backlog, next(_numbers), rows)
                runs[program].append(run)
                _say(
                    f"{workload.name} {number}/{rounds}: {program} {rows / run.seconds:,.0f} rows/s,"
                    f" {run.cpu_s / rows * 1e6:.1f} CPU s per 1M rows, {run.peak_rss / 2**20:.0f} MiB"
                )
    return report.Throughput(workload.name, workload.title, rows, runs)


def _latencies(site: Site, seconds: int) -> dict[str, latency.Latency]:
    found = {}
    for program in (EXACTLY_ONCE, AT_LEAST_ONCE):
        _say(f"latency: {latency.RATE} transactions a second for {seconds} s, {program}")
        found[program] = latency.measure(site, next(_numbers), seconds, exactly=program == EXACTLY_ONCE)
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
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
