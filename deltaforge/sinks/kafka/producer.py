"""One librdkafka producer on Trio, thrown away at the first doubt.

Rule 1: librdkafka calls that can block run in a worker thread, in slices of at most a second, and are never abandoned.
        Only a commit that goes on is asked about in slices of five seconds, for the reason at `_RESUME_S`.
Rule 2: after any error or doubt the producer is useless: `Doubt` carries the typed reason; the owner closes it and asks
        for a new epoch. There is no branch that asks whether a commit happened.
Rule 3: good rows cause no callback (delivery.report.only.error); what is delivered is known by counting.
"""

from __future__ import annotations

import collections
import math
import operator
import time
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

import trio
from confluent_kafka import KafkaError, KafkaException, Producer

from actors import beat_here, waiting_here
from deltaforge.errors import DeltaforgeError, Fault, OperatorError, TransientError
from deltaforge.failpoints import failpoint_async
from deltaforge.sinks.kafka.faults import Reaction, classify, reaction
from deltaforge.sinks.kafka.hang import LOOK_S, CallWatch
from deltaforge.sinks.kafka.poison import describe_row, suspicion
from deltaforge.sinks.kafka.repeats import Repeats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from confluent_kafka import Message

    from deltaforge.envelopes.base import Encoded

    OauthCallback = Callable[[str], tuple[str, float]]

_SLICE_S = 1.0
_RESUME_S = 5.0
"""A commit that did not end within a slice is resumed by another call, which librdkafka's main thread has to notice. If
that takes longer than the slice, librdkafka forgets that a commit is on, takes the broker's answer for an abort's, and
ends the process with SIGABRT (2.16, rd_kafka_txn_endtxn_complete). So it gets much time, and few occasions."""
_ABORT_S = 2.0
_FLUSH_S, _LOOK_S = 0.2, 0.001
_FEW = 100
"""So many records are one request of each partition: none of them waits for another one's answer."""
_FULL_S = 0.002
"""Pause while librdkafka's queue is full. Good deliveries make no callback, so there is no event to wait for."""


def _flush(producer: Producer) -> None:
    """Flush for a while. One long call would notice the last delivery up to 10 ms late, as none makes a callback.

    While a flush is on, librdkafka's thread does not sleep if a partition has records behind those in flight. So it is
    on only half of the time: a request that could have begun begins a millisecond later, and the processor is free.
    """
    until = time.monotonic() + _FLUSH_S
    while (left := producer.flush(_LOOK_S)) and time.monotonic() < until:
        if left > _FEW:
            time.sleep(_LOOK_S)


def _taken(partitions: Sequence[int], chosen: Iterator[int]) -> int:
    """How many records were produced before the one that was refused, for which the last number was drawn."""
    return len(partitions) - operator.length_hint(chosen) - 1


def _produce_with_headers(produce: Callable[..., None], rest: Sequence[Sequence[Any]], chosen: Iterator[int]) -> None:
    for topic, value, key, headers, partition in zip(*rest, chosen, strict=True):
        if headers is None:
            produce(topic, value, key, partition)
        else:
            produce(topic, value, key, partition, headers=headers)


# The last one is told of records that come once the transaction has failed.
_UNSAID = ("_PURGE_QUEUE", "_PURGE_INFLIGHT", "_FATAL", "_STATE")


class Unsaid(TransientError):
    """A record was not taken because its transaction had failed before: librdkafka tells the reason when asked."""


class Doubt(Exception):
    """Nobody knows what became of the open transaction: throw the producer away and rewind."""

    def __init__(self, cause: DeltaforgeError) -> None:
        super().__init__(cause.line())
        self.cause = cause


class KafkaProducer:
    """A producer for one epoch, or for less. Use `serve` in a nursery beside it."""

    def __init__(self, properties: Mapping[str, object], *, brokers: str, oauth: OauthCallback | None) -> None:
        conf: dict[str, object] = {**properties, "error_cb": self._on_error, "on_delivery": self._on_delivery}
        # confluent-kafka reads this one itself, and only as a bool.
        conf["delivery.report.only.error"] = True
        self._repeats = Repeats(properties)
        conf |= {"logger": self._repeats, **self._repeats.settings}
        if oauth is not None:
            conf["oauth_cb"] = oauth
        self._conf: dict[str, object] = conf
        self._brokers = brokers
        # Calls that block share no thread with the poll loop.
        self._calls, self._polls = trio.CapacityLimiter(1), trio.CapacityLimiter(1)
        self._watch = CallWatch()
        self._producer: Producer | None = None
        self.failure: DeltaforgeError | None = None
        """The first failed delivery or fatal error, or what made its owner give up; then only throwing away is left."""
        self.last_error: DeltaforgeError | None = None
        """The newest error the client reported of itself, such as a refused login: what a wait is about."""
        self.late = False
        """Whether records were not taken in the time that they had."""
        self._suspicion = -1
        self._produced = 0
        self._handed: collections.deque[tuple[int, int]] = collections.deque()
        self._closing = False

    # ---- callbacks, in the thread that polls

    def _on_error(self, error: KafkaError) -> None:
        found = classify(error, doing="talk to Kafka", brokers=self._brokers)
        if error.fatal() and self.failure is None:
            self.failure = found
        known = self.last_error
        # What only a person can mend is kept: that no broker is up is said as well, and says less.
        if found.fault is Fault.OPERATOR or known is None or known.fault is not Fault.OPERATOR:
            self.last_error = found

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is None or self._closing:
            return
        self.late = self.late or error.code() == KafkaError._MSG_TIMED_OUT
        likely = suspicion(error, message)
        if self.failure is None or likely > self._suspicion:
            self.failure = self._refused(error, message.topic() or "", message.value())
            self._suspicion = likely

    def _refused(self, error: KafkaError, topic: str, value: bytes | None) -> DeltaforgeError:
        found = classify(error, doing=f'write to topic "{topic}"', topic=topic, brokers=self._brokers)
        if reaction(error) is Reaction.POISON:
            return OperatorError(f"{describe_row(value)}: {found}", hint=found.hint)
        return Unsaid(str(found)) if error.name() in _UNSAID else found

    # ---- life

    async def open(self) -> None:
        """Make the client; no server is asked. Raises Doubt when librdkafka refuses the settings."""
        await trio.to_thread.run_sync(self._make, limiter=self._calls)

    def _make(self) -> None:
        try:
            self._producer = Producer(self._conf)
        except KafkaException as error:
            raise self._doubt(error, "start the Kafka client") from None

    def _doubt(self, error: KafkaException, doing: str) -> Doubt:
        return self._useless(classify(error.args[0], doing=doing, brokers=self._brokers))

    def _useless(self, cause: DeltaforgeError) -> Doubt:
        """Rule 2, also for whoever only asks `check`: the poll loop hears nothing of what a call was told."""
        self.failure = self.failure or cause
        return Doubt(cause)

    async def reach(self, topic: str) -> None:
        """Let the client find its brokers, for at most a second. Raises Doubt when it was closed.

        A request that finds no broker connected is tried again by a timer of half a second; `init` would often wait
        for that. What goes wrong here, goes wrong there again.
        """
        with suppress(KafkaException):
            await self._call(lambda p: p.list_topics(topic, timeout=_SLICE_S))

    async def serve(self) -> None:
        """Poll until closed, and watch the calls. Cancellation: leaves once no call is under way: none can be ended."""
        try:
            while not self._closing:  # noqa: ASYNC913 - the thread call is a cancel point
                await trio.to_thread.run_sync(self._poll, limiter=self._polls)
                # Not in the poll, which would wait by the wall clock.
                await trio.sleep(LOOK_S)
                self._watch.look()
        finally:
            with trio.CancelScope(shield=True):
                while self._watch.waits:
                    await trio.sleep(LOOK_S)
                    self._watch.look()

    def _poll(self) -> None:
        producer = self._producer
        if producer is not None:
            self._call_back(producer, 0)

    def _call_back(self, producer: Producer, seconds: float) -> None:
        try:
            producer.poll(seconds)
        except KafkaException as error:
            # What is fatal, such as being fenced, confluent-kafka raises here and does not tell error_cb.
            self._on_error(error.args[0])

    async def close(self) -> None:
        """Drop everything. An open transaction is left to the next `init` of the same id, which aborts it."""
        self._closing = True
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._destroy, limiter=self._calls)

    def _destroy(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge(blocking=False)
            self._call_back(producer, 0)
            # The destructor waits for librdkafka's threads: here, not on the event loop.
            del producer

    # ---- transactions

    async def init(self) -> None:
        """Fence older producers of this transactional id and settle what they left open. Waits for Kafka for ever.

        Raises:
          Doubt: Kafka refuses this id.
        """
        await self._until("open the transactional producer", lambda p, s: p.init_transactions(s), math.inf)
        self._repeats.speaks(trio.current_time())

    def begin(self) -> None:
        """Open a transaction. Raises Doubt."""
        self._repeats.speaks(trio.current_time())
        try:
            self._alive().begin_transaction()
        except KafkaException as error:
            raise self._doubt(error, "begin a Kafka transaction") from None

    async def commit(self, deadline: float) -> bool:
        """Commit the open transaction; everything produced has been flushed before, so that it is one request.

        Returns:
          Whether librdkafka may have sent the commit twice, so that a late copy of it may still be on its way.

        Raises:
          Doubt: it failed, or nobody answered until `deadline` (Trio time).
        """
        self._repeats.begins(trio.current_time())
        await failpoint_async("kafka.commit")
        doing = "commit the Kafka transaction"
        await self._until(doing, lambda p, s: p.commit_transaction(s), deadline, resume_s=_RESUME_S)
        if self._repeats.quick(now := trio.current_time()):
            return False
        # Log lines come through the same queue as callbacks: have those until now delivered.
        await self._hear()
        return self._repeats.repeated(now)

    async def abort(self) -> None:
        """Abort the open transaction. Raises Doubt when that fails within two seconds."""
        deadline = trio.current_time() + _ABORT_S
        await self._until("abort the Kafka transaction", lambda p, s: p.abort_transaction(s), deadline)

    async def explain(self, cause: DeltaforgeError) -> DeltaforgeError:
        """Why the transaction failed, if `cause` does not say it; else `cause`."""
        if isinstance(cause, Unsaid) and self._producer is not None:
            try:
                # The record that failed it may still be waiting for its callback, and is named there.
                await self._hear()
                if self.failure is not None and not isinstance(self.failure, Unsaid):
                    return self.failure
                # Refused with the reason as long as a failed transaction has not been aborted.
                await self._call(lambda p: p.begin_transaction())
            except KafkaException as error:
                return classify(error.args[0], doing="write in a Kafka transaction", brokers=self._brokers)
        return cause

    async def flush(self, deadline: float) -> None:
        """Wait until every produced record is delivered.

        Raises:
          Doubt: a delivery failed, or not all were made until `deadline` (Trio time).
        """
        while len(self._alive()):
            self.check()
            if trio.current_time() > deadline:
                cause = self.last_error or TransientError("Kafka did not take the records in send_timeout_secs")
                self.late = self.late or cause.fault is Fault.TRANSIENT
                raise Doubt(cause)
            try:
                await self._call(_flush)
            except KafkaException as error:
                raise self._doubt(error, "flush records to Kafka") from None
        self.check()

    async def _until(
        self, doing: str, call: Callable[[Producer, float], object], deadline: float, *, resume_s: float = _SLICE_S
    ) -> None:
        """Repeat a resumable call, which is given the seconds it may take, while it only times out."""
        slice_s = _SLICE_S
        while True:  # noqa: ASYNC913 - every call is a cancel point
            self.check()
            try:
                with waiting_here(f"Kafka, to {doing}") if slice_s > _SLICE_S else nullcontext():
                    await self._call(call, slice_s)
                return
            except KafkaException as error:
                fault: KafkaError = error.args[0]
                resumable = fault.retriable() and not fault.fatal() and not fault.txn_requires_abort()
                if not resumable or trio.current_time() > deadline:
                    raise self._doubt(error, doing) from None
                if fault.code() != KafkaError._TIMED_OUT:
                    await trio.sleep(0.1)
                slice_s = resume_s

    async def _call(self, call: Callable[..., object], *arguments: float) -> None:
        producer = self._alive()
        # Waiting for Kafka in slices is no stall, however long it takes.
        beat_here()
        with self._watch.call():
            await trio.to_thread.run_sync(call, producer, *arguments, limiter=self._calls)

    async def _hear(self) -> None:
        """Have every callback made that waits, without a wait for the poll loop."""
        await self._call(lambda p: self._call_back(p, 0))

    def _alive(self) -> Producer:
        if self._producer is None:
            raise Doubt(TransientError("the producer was closed"))
        return self._producer

    def check(self) -> None:
        """Raise Doubt when a delivery has failed or the client is broken for good."""
        if self.failure is not None:
            raise Doubt(self.failure)

    # ---- records

    async def produce(self, encoded: Encoded, partitions: Sequence[int]) -> None:
        """Hand records to librdkafka; waits while its queue is full.

        Raises:
          Doubt: a record was refused, or an earlier one failed.
        """
        done, count = 0, len(encoded.topics)
        while done < count:
            done = self._hand_over(encoded, partitions, done)
            self.check()
            if done < count:
                beat_here()
                await trio.sleep(_FULL_S)

    def _hand_over(self, encoded: Encoded, partitions: Sequence[int], start: int) -> int:
        """Produce from record `start` on until librdkafka is full; returns how many it has now."""
        produce: Callable[..., None] = self._alive().produce
        topics, values = encoded.topics, encoded.values
        chosen = iter(partitions if start == 0 else partitions[start:])
        columns = topics, values, encoded.keys, encoded.headers
        rest = [column[start:] for column in columns] if start else columns
        done = start
        try:
            if encoded.headers.count(None) == len(topics):
                # The loop is the interpreter's own: a bytecode loop costs a tenth of what librdkafka does for a row.
                collections.deque(map(produce, rest[0], rest[1], rest[2], chosen), maxlen=0)
            else:
                _produce_with_headers(produce, rest, chosen)
            done = len(topics)
        except BufferError:
            done = _taken(partitions, chosen)
        except KafkaException as error:
            done = _taken(partitions, chosen)
            raise self._useless(self._refused(error.args[0], topics[done], values[done])) from None
        finally:
            self._produced += done - start
        return done

    def handed(self, nbytes: int) -> None:
        """A batch has been handed over completely; its `nbytes` are ours until `delivered` returns them."""
        self._handed.append((self._produced, nbytes))

    @property
    def inflight(self) -> int:
        """Batches handed over and, as far as counting tells, not yet delivered."""
        return len(self._handed)

    @property
    def queued(self) -> int:
        """Records handed over and not yet delivered."""
        return len(self._producer) if self._producer is not None else 0

    @property
    def taken(self) -> int:
        """Records delivered so far."""
        return self._produced - self.queued

    def delivered(self) -> int:
        """Bytes of batches delivered since the last call."""
        if not self._handed:
            return 0
        done = self._produced - len(self._alive())
        freed = 0
        while self._handed and self._handed[0][0] <= done:
            freed += self._handed.popleft()[1]
        return freed
