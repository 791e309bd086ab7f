"""Rows a second drained from a backlog: deltaforge with exactly once into a real broker, beside pg_recvlogical.

Both read the same WAL from slots made before the rows were written, in turn, on the same machine. Time runs from the
moment PostgreSQL shows the slot as active to the moment the last row is durable (deltaforge: committed in Kafka;
pg_recvlogical: written to /dev/null). Processor time and memory are those of the whole process, its start included.

    python -m tests.benchmarks [--rows 500000] [--rounds 2]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from deltaforge.embedded.kafka import KafkaCluster
from deltaforge.embedded.postgres import PostgresServer
from tests.benchmarks.backlog import PUBLICATION, ROWS_PER_TRANSACTION, Backlog
from tests.support.kafka_topics import create_topic
from tests.support.pipelines import local, write
from tests.support.process import Deltaforge
from tests.support.topics import read

RECVLOGICAL = ("/usr/lib/postgresql/15/bin/pg_recvlogical", "pg_recvlogical")
DRAIN_S = 900.0
POLL_S = 0.05


class Run(NamedTuple):
    """One drain of the backlog."""

    seconds: float
    cpu_s: float
    peak_rss: int
    start_s: float
    """From the start of the process until it held the slot."""


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description="Rows a second drained from a backlog"
    )
    parser.add_argument("--rows", type=int, default=500_000, help="rows in the backlog (default 500000)")
    parser.add_argument("--rounds", type=int, default=2, help="drains of each program, in turn (default 2)")
    options = parser.parse_args()
    rows = options.rows // ROWS_PER_TRANSACTION * ROWS_PER_TRANSACTION
    program = next((name for name in RECVLOGICAL if shutil.which(name)), None)
    if program is None:
        raise SystemExit("no pg_recvlogical on this machine (apt-get install postgresql-client-15)")
    settings = {"max_wal_size": "16GB", "checkpoint_timeout": "1h"}
    with tempfile.TemporaryDirectory() as folder, PostgresServer(options=settings) as server, KafkaCluster() as kafka:
        results = compare(Path(folder), server, kafka, program, rows, options.rounds)
    print(table(results, rows))


def compare(
    folder: Path, server: PostgresServer, kafka: KafkaCluster, program: str, rows: int, rounds: int
) -> dict[str, list[Run]]:
    """Make the slots, then the backlog, then drain it with both programs in turn."""
    backlog = Backlog(server)
    pipelines = [_prepared(folder, number, backlog, kafka) for number in range(rounds)]
    for number in range(rounds):
        backlog.make_slot(f"recv_{number}")
    print(f"loading {rows} rows", flush=True)
    end = backlog.load(rows)
    results: dict[str, list[Run]] = {"pg_recvlogical": [], "deltaforge": []}
    for number, product in enumerate(pipelines):
        results["pg_recvlogical"].append(_recvlogical(program, backlog, f"recv_{number}", end))
        results["deltaforge"].append(_deltaforge(product, backlog, number, rows))
        for name, runs in results.items():
            print(f"{name}: {rows / runs[-1].seconds:,.0f} rows/s", flush=True)
        assert len(read(kafka.bootstrap(), f"bench-{number}")) == rows, "the topic does not hold every row once"
    return results


def _prepared(folder: Path, number: int, backlog: Backlog, kafka: KafkaCluster) -> Deltaforge:
    """A pipeline that has made its slot and its checkpoint topic, and was stopped."""
    document = local(f"bench-{number}", create_topic(kafka.bootstrap(), f"bench-{number}", 12))
    document["spec"]["source"]["config"] |= {"publication": PUBLICATION, "tables": ["public.orders"]}
    servers = {"POSTGRES_DSN": backlog.dsn, "KAFKA_BROKERS": kafka.bootstrap()}
    product = Deltaforge(write(folder / f"bench-{number}.yaml", document), servers, name="bench")
    with product:
        product.wait_ready()
        code = product.term()
        assert code == 0, product.tail()
    return product


def _deltaforge(product: Deltaforge, backlog: Backlog, number: int, rows: int) -> Run:
    launched = time.monotonic()
    with product:
        began = _held(backlog, f"bench_{number}")
        while product.ask("/ready")[0] != 200 or _sent(product) < rows:
            assert product.running, product.tail()
            assert time.monotonic() - began < DRAIN_S, product.tail()
            time.sleep(POLL_S)
        run = Run(time.monotonic() - began, product.cpu_s(), product.peak_rss(), began - launched)
        product.term()
    backlog.drop_slot(f"bench_{number}")
    return run


def _sent(product: Deltaforge) -> float:
    _, body = product.ask("/metrics")
    lines = [line for line in body.decode().splitlines() if line.startswith("deltaforge_sink_events_sent_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def _recvlogical(program: str, backlog: Backlog, slot: str, end: str) -> Run:
    launched = time.monotonic()
    plugin = ["-o", "proto_version=1", "-o", f"publication_names={PUBLICATION}"]
    command = [program, "-d", backlog.dsn, "--slot", slot, "--start", "-f", "/dev/null", "--endpos", end, *plugin]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    began = _held(backlog, slot)
    peak, ended = 0, 0
    while not ended:
        # Not rusage: its peak counts what the forking parent held.
        peak = max(peak, _peak_rss(process.pid))
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        time.sleep(0 if ended else POLL_S / 5)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{program} ended with {process.returncode}"
    backlog.drop_slot(slot)
    return Run(seconds, usage.ru_utime + usage.ru_stime, peak, began - launched)


def _peak_rss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _held(backlog: Backlog, slot: str) -> float:
    deadline = time.monotonic() + 60
    while not backlog.active(slot):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody reads slot {slot}")
        time.sleep(POLL_S / 5)
    return time.monotonic()


def table(results: dict[str, list[Run]], rows: int) -> str:
    """The results for people: medians over the rounds."""
    lines = [f"{rows} rows, {ROWS_PER_TRANSACTION} a transaction, {os.cpu_count()} cores, median of the rounds", ""]
    lines.append(f"{'':16}{'rows/s':>10}{'CPU s per 1M rows':>20}{'peak RSS MiB':>14}{'start s':>9}")
    speed: dict[str, float] = {}
    for name, runs in results.items():
        speed[name] = rows / statistics.median(run.seconds for run in runs)
        cpu = statistics.median(run.cpu_s for run in runs) / rows * 1e6
        memory = max(run.peak_rss for run in runs) / 2**20
        start = statistics.median(run.start_s for run in runs)
        lines.append(f"{name:16}{speed[name]:>10,.0f}{cpu:>20.1f}{memory:>14.0f}{start:>9.1f}")
    lines += ["", f"ratio {speed['deltaforge'] / speed['pg_recvlogical']:.2f}"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
