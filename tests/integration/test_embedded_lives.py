"""Servers for demo and tests come back after stop and kill, and never outlive who started them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import trio
from confluent_kafka import Producer
from psycopg import pq

from deltaforge.embedded import asynchronous
from deltaforge.embedded.binaries import find_bin_dir, readable_by_others
from deltaforge.embedded.errors import BinariesMissing, EmbeddedError, ServerDied
from deltaforge.embedded.kafka_conf import Listener
from deltaforge.embedded.ports import accepts
from deltaforge.embedded.postgres import PostgresServer
from tests.support.available import unavailable
from tests.support.kafka_topics import create_topic, read_topic

if TYPE_CHECKING:
    from collections.abc import Callable

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.support.fix_tls import Certificates


@pytest.fixture
def own_postgres(make_postgres: Callable[..., PostgresServer]) -> PostgresServer:
    """A PostgreSQL 18 for one test, not started."""
    return make_postgres(18)


@pytest.fixture
def own_kafka(make_kafka: Callable[..., KafkaCluster]) -> KafkaCluster:
    """A Kafka node for one test, not started."""
    return make_kafka(1)


def _gone(pid: int, within_s: float = 30.0) -> bool:
    """Whether a process that is no child of ours ends in time."""
    deadline = time.monotonic() + within_s
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("how", ["fast", "immediate", "kill"])
def test_postgres_keeps_port_and_committed_rows(own_postgres: PostgresServer, how: str) -> None:
    """Guards against restart tests that in truth talk to a new, empty server."""
    own_postgres.start()
    before, pid = own_postgres.dsn(), own_postgres.pid
    with psycopg.connect(before, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
    if how == "kill":
        own_postgres.kill()
    else:
        own_postgres.stop(immediate=how == "immediate")
    assert not accepts(own_postgres.port)
    own_postgres.start()
    assert (own_postgres.dsn(), own_postgres.pid != pid) == (before, True)
    with psycopg.connect(before) as connection:
        assert connection.execute("SELECT value FROM kept").fetchone() == (7,)


def test_postgres_leaves_nothing(own_postgres: PostgresServer) -> None:
    """Guards against servers and directories that pile up on a developer's machine."""
    own_postgres.start()
    pid, directory = own_postgres.pid, own_postgres.directory
    own_postgres.close()
    assert _gone(pid)
    assert not directory.exists()
    assert not accepts(own_postgres.port)


def test_postgres_says_why_it_does_not_start(make_postgres: Callable[..., PostgresServer]) -> None:
    """Guards against a failed start whose reason is only in a log file that is removed at once."""
    with pytest.raises(ServerDied, match="shared_buffers"):
        make_postgres(18, options={"shared_buffers": "nonsense"}).start()


def test_a_missing_version_names_its_remedy() -> None:
    """Guards against `file not found` as the only answer."""
    with pytest.raises(BinariesMissing) as caught:
        find_bin_dir(9)
    assert "DELTAFORGE_POSTGRES_9" in caught.value.line()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives up its rights")
def test_root_may_run_programs_from_a_closed_directory(tmp_path: Path) -> None:
    """Guards against a virtual environment below /root, which the server's account cannot enter."""
    try:
        install = find_bin_dir(18).parent
    except BinariesMissing as error:
        unavailable(error)
    package = tmp_path / "closed" / install.parent.name
    shutil.copytree(install, package / install.name, symlinks=True, ignore=shutil.ignore_patterns("include"))
    libraries = install.parent.parent / f"{install.parent.name}.libs"
    shutil.copytree(libraries, tmp_path / "closed" / libraries.name)
    (tmp_path / "closed").chmod(0o700)
    closed = package / install.name / "bin"
    assert not readable_by_others(closed)
    with PostgresServer(18, bin_dir=closed) as server, psycopg.connect(server.dsn()) as connection:
        assert connection.execute("SHOW is_superuser").fetchone() == ("on",)
    assert os.stat(tmp_path / "closed").st_mode & 0o777 == 0o700


def test_kafka_keeps_ports_and_records_until_it_is_closed(own_kafka: KafkaCluster) -> None:
    """Guards against restart tests on a new, empty broker, and against brokers that pile up on a machine."""
    own_kafka.start()
    before = own_kafka.bootstrap()
    topic = create_topic(before, "kept")
    producer = Producer({"bootstrap.servers": before, "acks": "all"})
    producer.produce(topic, value=b"1")
    assert producer.flush(30) == 0
    for end in (own_kafka.stop, own_kafka.kill):
        end()
        assert not own_kafka.node(1).brokers_seen()
        own_kafka.start()
        assert own_kafka.bootstrap() == before
        assert [record.value for record in read_topic(before, topic)] == [b"1"]
    pid, directory = own_kafka.node(1).pid, own_kafka.directory
    own_kafka.close()
    assert _gone(pid)
    assert not directory.exists()


@pytest.mark.slow
def test_a_killed_node_of_three_comes_back(kafka3: KafkaCluster, topic_prefix: str) -> None:
    """Guards against a cluster that stands only as long as nobody tests its failure."""
    topic = create_topic(kafka3.bootstrap(), f"{topic_prefix}.survives", 3)
    kafka3.kill_node(2)
    producer = Producer({"bootstrap.servers": kafka3.bootstrap(), "acks": "all", "log_level": 0})
    for partition in range(3):
        producer.produce(topic, value=b"while one is away", partition=partition)
    assert producer.flush(60) == 0
    kafka3.start_node(2)
    kafka3.wait_ready()
    assert len(read_topic(kafka3.bootstrap(), topic)) == 3


def test_kafka_says_why_it_does_not_start(make_kafka: Callable[..., KafkaCluster]) -> None:
    """Guards against a failed start whose reason is only in a log file that is removed at once."""
    with pytest.raises(EmbeddedError, match="num\\.io\\.threads"):
        make_kafka(1, options={"num.io.threads": "nonsense"}).start()


def test_no_command_line_shows_a_password(make_kafka: Callable[..., KafkaCluster], certificates: Certificates) -> None:
    """Guards against secrets in `ps`: what Java is given stands in a file only its owner may read."""
    cluster = make_kafka(1, listeners=[Listener.SASL], tls=certificates.server, scram_users={"user": "canary-in-ps"})
    starting = threading.Thread(target=cluster.start)
    starting.start()
    seen: set[bytes] = set()
    while starting.is_alive():
        seen |= _command_lines()
        starting.join(0.05)
    # Java was seen at work, from the formatting of the storage on.
    assert any(b"java" in line and b"deltaforge-tool-" in line for line in seen)
    assert not any(b"canary-in-ps" in line for line in seen)
    assert (cluster.node(1).directory / "arguments").stat().st_mode & 0o077 == 0


def _command_lines() -> set[bytes]:
    lines = set()
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.add(file.read_bytes())
    return lines


def test_an_active_backend_does_not_hinder_the_start_after_a_kill(own_postgres: PostgresServer) -> None:
    """Guards against `pre-existing shared memory block is still in use` right after a kill under load."""
    own_postgres.start()
    connection = pq.PGconn.connect(own_postgres.dsn().encode())
    connection.send_query(b"SELECT count(*) FROM generate_series(1, 100000000)")
    with psycopg.connect(own_postgres.dsn(), autocommit=True) as watcher:
        active = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND state = 'active'"
        deadline = time.monotonic() + 30
        while watcher.execute(active, (connection.backend_pid,)).fetchone() is None:
            assert time.monotonic() < deadline
    own_postgres.kill()
    assert _gone(connection.backend_pid, 0.0)
    connection.finish()
    own_postgres.start()


_OWNER = """
import sys, time
from deltaforge.embedded.postgres import PostgresServer
server = PostgresServer(18)
server.start()
print(server.pid, server.directory, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_ends_with_its_owner(own_postgres: PostgresServer, number: signal.Signals) -> None:
    """Guards against servers that outlive a crashed demo or a killed test run."""
    with subprocess.Popen([sys.executable, "-c", _OWNER], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid, directory = owner.stdout.readline().split()
        assert Path(f"/proc/{pid}").exists()
        owner.send_signal(number)
    assert _gone(int(pid))
    deadline = time.monotonic() + 30
    while Path(directory).exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_server_outlives_the_thread_that_started_it(own_postgres: PostgresServer) -> None:
    """Guards against tying a server's life to one of Trio's worker threads, which come and go."""
    thread = threading.Thread(target=own_postgres.start)
    thread.start()
    thread.join()
    with psycopg.connect(own_postgres.dsn()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert own_postgres.running


async def test_a_cancelled_start_leaves_nothing(own_kafka: KafkaCluster) -> None:
    """Guards against Ctrl-C during the start of the demo leaving a broker behind, or waiting for it."""
    with trio.fail_after(60), trio.move_on_after(1.0) as scope:
        async with asynchronous.running(own_kafka):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not any(node.running for node in own_kafka.nodes)


async def test_a_failed_start_is_one_plain_error() -> None:
    """Guards against the demo showing an exception group where one line is enough."""
    with pytest.raises(ServerDied):
        async with asynchronous.running(PostgresServer(18, options={"shared_buffers": "nonsense"})):
            pass
