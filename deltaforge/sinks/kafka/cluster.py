"""Questions to a Kafka cluster, asked with blocking clients in a worker thread.

Every call into librdkafka runs in a thread, one at a time, for at most half a second, and is never abandoned. So each
method can be cancelled within that time, and no thread goes on calling into a client that was given up.

librdkafka reports a refused login through a callback only, while the request itself just times out. The last complaint
is kept and explains the timeout.
"""

from __future__ import annotations

import errno
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import confluent_kafka as ck
import trio
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
)

from deltaforge.errors import DeltaforgeError, Fault, OperatorError, TransientError
from deltaforge.sinks.kafka import faults

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from confluent_kafka.admin import TopicDescription  # type: ignore[attr-defined]

T = TypeVar("T")
C = TypeVar("C", ck.Consumer, ck.Producer, AdminClient)

SLICE_S = 0.5
"""Longest time one call stays in a worker thread while it waits for the network."""

REQUEST_S = 15.0
"""How long one request may take before the brokers count as away."""

HOPELESS_S = 5.0
"""How long to wait on after a refused login, or when no broker can be reached: one of the cluster may yet answer."""

_EARLIEST: Any = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_MISSING = ("UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION")
_OUTDATED = ("UNKNOWN_LEADER_EPOCH", "FENCED_LEADER_EPOCH", "NOT_LEADER_FOR_PARTITION")
"""With them a broker says that the client's picture of the cluster is not its own."""
_UNREADABLE = ("TOPIC_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED")


class Unreadable(Exception):
    """We lack the right to read a topic's settings."""


class Cluster:
    """One cluster, reached with `connection` (librdkafka properties). One call at a time.

    All methods raise TransientError (brokers away) and OperatorError (they refuse us).
    `aclose` ends the connection that is kept between calls; the object can be used again afterwards.
    """

    def __init__(self, connection: Mapping[str, object]) -> None:
        self.brokers = str(connection.get("metadata.broker.list") or connection.get("bootstrap.servers") or "")
        self._connection = dict(connection)
        self._limiter = trio.CapacityLimiter(1)
        self._admin: AdminClient | None = None
        self._complaint: ck.KafkaError | None = None
        self._all_down = False

    # ---- questions

    async def describe(self, topic: str) -> TopicDescription | None:
        """The topic's id, partitions and replicas; None when there is no such topic."""
        names, doing = ck.TopicCollection([topic]), f'describe topic "{topic}"'
        try:
            answer = await self._ask(doing, lambda admin: admin.describe_topics(names, request_timeout=REQUEST_S))
        except ck.KafkaException as error:
            if error.args[0].name() in _MISSING:
                return None
            raise self.fault(error.args[0], doing) from None
        return cast("TopicDescription", answer[topic])

    async def settings(self, topic: str) -> dict[str, str | None]:
        """All settings of a topic. Raises Unreadable when we lack the right."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        doing = f'read the settings of topic "{topic}"'
        try:
            answer = await self._ask(doing, lambda admin: admin.describe_configs([resource], request_timeout=REQUEST_S))
        except ck.KafkaException as error:
            if error.args[0].name() in _UNREADABLE:
                raise Unreadable(error.args[0].str()) from None
            raise self.fault(error.args[0], doing, topic) from None
        return {name: entry.value for name, entry in answer[resource].items()}

    async def ends(self, partitions: Sequence[tuple[str, int]], *, stable: bool) -> dict[tuple[str, int], int]:
        """The end offset of each (topic, partition): the last stable offset, or else the high watermark."""
        isolation = ck.IsolationLevel.READ_COMMITTED if stable else ck.IsolationLevel.READ_UNCOMMITTED
        return await self._offsets(partitions, _LATEST, isolation)

    async def begins(self, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """The first offset of each (topic, partition)."""
        return await self._offsets(partitions, _EARLIEST, ck.IsolationLevel.READ_UNCOMMITTED)

    async def create(self, topic: str, partitions: int, replicas: int, config: Mapping[str, str]) -> bool:
        """Create a topic and wait until it has leaders. `replicas` -1 = the broker's default.

        Returns False when it was there already (created by another, perhaps this very moment).
        """
        new, doing, created = (
            NewTopic(topic, partitions, replicas, config=dict(config)),
            f'create topic "{topic}"',
            True,
        )
        try:
            await self._ask(doing, lambda admin: admin.create_topics([new], request_timeout=REQUEST_S))
        except ck.KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                raise self.fault(error.args[0], doing) from None
            created = False
        # The answer comes before every broker knows of the topic.
        deadline = trio.current_time() + REQUEST_S
        while (found := await self.describe(topic)) is None or any(p.leader is None for p in found.partitions):
            if trio.current_time() > deadline:
                raise self.away(doing, "it has no leader")
            await trio.sleep(0.05)
        return created

    async def aclose(self) -> None:
        """End the connection kept between calls."""
        last, self._admin = [self._admin], None
        with trio.move_on_after(5, shield=True):
            # The last reference dies in the thread: ending a client waits for the client's own threads.
            await self.thread(last.clear)

    # ---- for clients of other kinds

    async def thread(self, call: Callable[[], T]) -> T:
        """Run `call` in the worker thread. It must not take longer than about a slice."""
        return await trio.to_thread.run_sync(call, limiter=self._limiter)

    async def open(self, make: Callable[[dict[str, Any]], C], extra: Mapping[str, object]) -> C:
        """Start a client of type `make`; its complaints explain later timeouts."""
        # Without a limit librdkafka writes twenty lines a second to stderr while the brokers are away.
        quiet = {"log_level": 2, "error_cb": self._complain, "allow.auto.create.topics": False}
        properties = {**quiet, **self._connection, **extra}
        try:
            return await self.thread(lambda: make(properties))
        except ck.KafkaException as error:
            raise _unreadable_file(properties) or self.fault(error.args[0], "start a Kafka client") from None

    def begin(self) -> None:
        """A new piece of work: forget what clients complained about before, unless it is not over."""
        if not self._all_down:
            self._complaint = None

    def silent(self, since: float, limit_s: float) -> bool:
        """Whether to stop waiting for an answer: sooner when no broker can be reached, or none lets us in."""
        limit_s = min(limit_s, HOPELESS_S) if self._all_down or self._hopeless() else limit_s
        return trio.current_time() - since > limit_s

    def fault(self, error: ck.KafkaError, doing: str, topic: str = "") -> DeltaforgeError:
        """The typed error for `error`."""
        found = faults.classify(error, doing=doing, topic=topic, brokers=self.brokers)
        if found.fault is Fault.TRANSIENT and self._complaint is not None:
            return faults.classify(self._complaint, doing=doing)
        return found

    def away(self, doing: str, why: str) -> DeltaforgeError:
        """The typed error for an answer that did not come."""
        if self._complaint is not None:
            return faults.classify(self._complaint, doing=doing)
        return TransientError(f"cannot {doing}: {why}", hint=faults.AWAY)

    # ---- inside

    async def _offsets(
        self, partitions: Sequence[tuple[str, int]], spec: OffsetSpec, isolation: ck.IsolationLevel
    ) -> dict[tuple[str, int], int]:
        wanted = {ck.TopicPartition(topic, number): spec for topic, number in partitions}
        doing = "ask for the offsets of " + ", ".join(sorted({f'"{topic}"' for topic, _ in partitions}))
        if not wanted:
            return {}
        try:
            answer = await self._ask(
                doing,
                lambda admin: admin.list_offsets(wanted, isolation_level=isolation, request_timeout=REQUEST_S),
            )
        except ck.KafkaException as error:
            raise self.fault(error.args[0], doing) from None
        ends = {(partition.topic, partition.partition): found.offset for partition, found in answer.items()}
        # librdkafka asks nobody about a partition without a leader, and calls that an answer.
        if leaderless := [place for place, end in ends.items() if end < 0]:
            topic, number = leaderless[0]
            raise self.away(doing, f'partition {number} of "{topic}" has no leader')
        return ends

    async def _ask(self, doing: str, request: Callable[[AdminClient], Mapping[Any, Future[Any]]]) -> dict[Any, Any]:
        """Send one admin request and wait for all of its answers, in slices. Raises KafkaException."""
        if self._admin is None:
            self._admin = await self.open(AdminClient, {})
        answers = await self.thread(lambda: request(self._client()))
        asked, answered = trio.current_time(), False
        try:
            while not (answered := await self.thread(lambda: _wait(self._client(), answers))):
                if self.silent(asked, 2 * REQUEST_S):
                    raise self.away(doing, "no answer")
        finally:
            if not answered or any(_could_not_ask(answer.exception()) for answer in answers.values()):
                with trio.move_on_after(5, shield=True):
                    await self._give_up()
        self._all_down = False
        return {key: answer.result() for key, answer in answers.items()}

    def _client(self) -> AdminClient:
        if self._admin is None:
            raise TransientError("the connection to Kafka was closed")
        return self._admin

    async def _give_up(self) -> None:
        """The next question goes to a new client.

        One that owes an answer may owe it for ever. One that could not ask goes on by its picture of the cluster: it
        was seen to look for a controller in vain for four minutes, beside clients that had one.
        """
        self._all_down = False
        await self.aclose()

    def _complain(self, error: ck.KafkaError) -> None:
        """librdkafka's error callback, in whatever thread polls. What only a person can mend is kept longest."""
        if error.name() == "_ALL_BROKERS_DOWN":
            # Told once until one is up again; the complaint before it says more.
            self._all_down = True
        if not self._hopeless() and (self._complaint is None or error.name() != "_ALL_BROKERS_DOWN"):
            self._complaint = error

    def _hopeless(self) -> bool:
        complaint = self._complaint
        return complaint is not None and faults.classify(complaint, doing="").fault is not Fault.TRANSIENT


def _unreadable_file(properties: Mapping[str, object]) -> OperatorError | None:
    """The first file that the client's properties name and nobody can read: OpenSSL's words do not say which."""
    for key, path in properties.items():
        if key.startswith("ssl.") and key.endswith(".location") and path != "probe":
            try:
                with Path(str(path)).open("rb"):
                    pass
            except OSError as error:
                # A directory of certificates is fine.
                if error.errno != errno.EISDIR:
                    return OperatorError(f"cannot read {path} ({key}): {error.strerror}", hint=faults.FILE)
    return None


def _could_not_ask(error: BaseException | None) -> bool:
    """Whether it is librdkafka's own error, or tells that the client's picture of the cluster is not the broker's."""
    if not isinstance(error, ck.KafkaException):
        return False
    return error.args[0].code() < 0 or error.args[0].name() in _OUTDATED


def _wait(admin: AdminClient, answers: Mapping[Any, Future[Any]]) -> bool:
    """In a thread: whether all answers are there after at most a slice."""
    admin.poll(0)  # runs error_cb; the answers come by themselves
    deadline = time.monotonic() + SLICE_S
    for answer in answers.values():
        try:
            answer.exception(max(deadline - time.monotonic(), 0.0))
        except FutureTimeout:
            return False
    return True
