"""One program drains one backlog: pg_recvlogical into /dev/null, or deltaforge into Kafka.

Rule 1: time and processor time run from the moment PostgreSQL shows the slot as active to the moment the last
        transaction is durable (pg_recvlogical: received; deltaforge: recorded in its checkpoint topic). What happens
        before, the start of the process, is told apart from it.
Rule 2: the watching costs the watched program nothing: it is not asked for metrics while the clock runs.
Rule 3: after the clock the topic is read and has to hold every row; then slot and topic go.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tests.benchmarks.topics import PositionWatch, check, checkpoint_of
from tests.benchmarks.workloads import PUBLICATION, TABLE
from tests.support.kafka_topics import create_topic, delete_topic
from tests.support.pipelines import kafka_config, local, write
from tests.support.process import Deltaforge

if TYPE_CHECKING:
    from deltaforge.embedded.kafka import KafkaCluster
    from deltaforge.embedded.postgres import PostgresServer
    from tests.benchmarks.backlog import Backlog
    from tests.benchmarks.connect import DistributedWorker

RECVLOGICAL = "pg_recvlogical"
AT_LEAST_ONCE = "deltaforge at least once"
EXACTLY_ONCE = "deltaforge exactly once"
HELD_S = 120.0
DRAIN_S = 1800.0
PARTITIONS = 12
_POLL_S = 0.01


class Run(NamedTuple):
    """One drain of a backlog."""

    seconds: float
    cpu_s: float
    """Processor seconds, user and system, while it drained."""
    peak_rss: int
    """Bytes, since the start of the process."""
    start_s: float
    """From the start of the process until it held the slot."""
    start_cpu_s: float
    first_s: float
    """From then until the first rows were durable; part of `seconds`. 0 for pg_recvlogical."""


class Reader(Protocol):
    """A program that streams from a slot, as seen from outside."""

    @property
    def running(self) -> bool:
        """Whether it lives."""

    def cpu_s(self) -> float:
        """Processor seconds it has used so far."""

    def tail(self) -> str:
        """The end of what it wrote."""


@dataclass(frozen=True)
class Site:
    """The servers of this benchmark and where its files go."""

    folder: Path
    postgres: PostgresServer
    kafka: KafkaCluster
    codec: str
    """`python`, `compiled`, or empty for what deltaforge chooses by itself."""
    connect: DistributedWorker | None = None
    """Where Debezium runs; only with `--peers`."""

    @property
    def bootstrap(self) -> str:
        """Kafka's address."""
        return self.kafka.bootstrap()

    @property
    def environment(self) -> dict[str, str]:
        """What deltaforge is started with."""
        servers = {"POSTGRES_DSN": self.postgres.dsn(), "KAFKA_BROKERS": self.bootstrap}
        return servers | ({"DELTAFORGE_CODEC": self.codec} if self.codec else {})


def drain(site: Site, program: str, backlog: Backlog, number: int, rows: int) -> Run:
    """Let a program drain the backlog from a slot of its own; `number` makes its names its own."""
    slot = f"bench_{number}"
    position = backlog.make_slot(slot)
    if program == RECVLOGICAL:
        run = _recvlogical(site, backlog, slot)
    else:
        run = _deltaforge(site, backlog, slot, position, rows, exactly=program == EXACTLY_ONCE)
    backlog.drop_slot(slot)
    return run


def pipeline(site: Site, name: str, *, exactly: bool, adopt: str) -> Deltaforge:
    """A process that runs the example's pipeline from the slot of the same name, which stands at `adopt`."""
    document = local(name, name)
    document["spec"]["source"]["config"] |= {"publication": PUBLICATION, "tables": [f"public.{TABLE}"]}
    kafka_config(document)["exactly_once"] = exactly
    file = write(site.folder / f"{name}.yaml", document)
    return Deltaforge(file, site.environment, arguments=["--adopt-slot", adopt], name=name)


def make_topic(site: Site, name: str) -> None:
    """A topic as the example's, whose files are gone soon after it is deleted."""
    create_topic(site.bootstrap, name, PARTITIONS, config={"file.delete.delay.ms": "1000"})


def held(backlog: Backlog, slot: str, reader: subprocess.Popen[bytes] | Reader) -> float:
    """Block until somebody streams from the slot. Returns the time."""
    deadline = time.monotonic() + HELD_S
    while not backlog.active(slot):
        running = reader.poll() is None if isinstance(reader, subprocess.Popen) else reader.running
        if not running or time.monotonic() > deadline:
            raise TimeoutError(f"nobody reads slot {slot}{_tail(reader)}")
        time.sleep(_POLL_S)
    return time.monotonic()


def _tail(reader: subprocess.Popen[bytes] | Reader) -> str:
    return "" if isinstance(reader, subprocess.Popen) else f":\n{reader.tail()}"


def cpu_s(pid: int) -> float:
    """Processor seconds, user and system, that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_rss(pid: int) -> int:
    """The most resident memory a process ever had, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _deltaforge(site: Site, backlog: Backlog, slot: str, position: str, rows: int, *, exactly: bool) -> Run:
    make_topic(site, slot)
    checkpoints = f"_deltaforge.{slot}.orders-kafka"
    watch = PositionWatch(site.bootstrap, checkpoints, checkpoint_of)
    product = pipeline(site, slot, exactly=exactly, adopt=position)
    launched = time.monotonic()

    def alive() -> None:
        assert product.running, product.tail()
        assert time.monotonic() < launched + DRAIN_S, product.tail()

    with product:
        began = held(backlog, slot, product)
        start_cpu = product.cpu_s()
        first = watch.wait(backlog.before_last, alive)
        seconds, cpu = time.monotonic() - began, product.cpu_s() - start_cpu
        run = Run(seconds, cpu, product.peak_rss(), began - launched, start_cpu, first - began)
        watch.close()
        code = product.term()
        assert code == 0, product.tail()
    check(site.bootstrap, slot, rows, exactly=exactly)
    delete_topic(site.bootstrap, slot)
    delete_topic(site.bootstrap, checkpoints)
    return run


def _recvlogical(site: Site, backlog: Backlog, slot: str) -> Run:
    launched = time.monotonic()
    process = recvlogical(site, backlog, slot, "--endpos", str(backlog.end))
    try:
        began = held(backlog, slot, process)
        peak = ended = 0
        while not ended:
            # Not rusage: its peak counts what the forking parent held.
            peak = max(peak, peak_rss(process.pid))
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            time.sleep(0 if ended else _POLL_S)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, f"{RECVLOGICAL} ended with {process.returncode}"
    return Run(seconds, usage.ru_utime + usage.ru_stime, peak, began - launched, 0.0, 0.0)


def recvlogical(site: Site, backlog: Backlog, slot: str, *options: str) -> subprocess.Popen[bytes]:
    """pg_recvlogical on that slot, into /dev/null."""
    plugin = ["-o", "proto_version=1", "-o", f"publication_names={PUBLICATION}", "-o", "messages=true"]
    command = [_program(site), "-d", backlog.dsn, "--slot", slot, "--start", "-f", "/dev/null", "--no-loop"]
    return subprocess.Popen([*command, *options, *plugin], stdin=subprocess.DEVNULL)


def _program(site: Site) -> str:
    """pg_recvlogical of the server's own version, else any."""
    own = site.postgres.bin_dir / RECVLOGICAL
    found = str(own) if own.exists() else shutil.which(RECVLOGICAL)
    if found is None:
        raise SystemExit(f"no {RECVLOGICAL} on this machine (apt-get install postgresql-client)")
    return found
