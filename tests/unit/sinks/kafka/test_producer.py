"""How long librdkafka may take for a call, with a client that is late as often as told. The real one: tests/fault."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import pytest
import trio
from confluent_kafka import KafkaError, KafkaException

from actors import ActorContext
from deltaforge.sinks.kafka import producer
from deltaforge.sinks.kafka.producer import Doubt, KafkaProducer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from confluent_kafka import Message


class Client:
    """Times out so many times, as librdkafka does where a call is to be resumed."""

    late = 0

    def __init__(self, conf: object) -> None:
        self.slices: list[float] = []

    def _ask(self, seconds: float) -> None:
        self.slices.append(seconds)
        if len(self.slices) <= self.late:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "late", False, True))

    init_transactions = commit_transaction = abort_transaction = _ask

    def __len__(self) -> int:
        return 0


class Refused:
    """A record that came back."""

    def topic(self) -> str:
        return "t"

    def value(self) -> bytes:
        return b"{}"

    key = value


@pytest.fixture
async def made(monkeypatch: pytest.MonkeyPatch) -> tuple[KafkaProducer, Client]:
    """A producer and the client in it, which is late twice."""
    clients: list[Client] = []

    def client(conf: object) -> Client:
        clients.append(Client(conf))
        return clients[0]

    monkeypatch.setattr(producer, "Producer", client)
    monkeypatch.setattr(Client, "late", 2)
    made = KafkaProducer({"transactional.id": "t"}, brokers="b:9092", oauth=None)
    await made.open()
    return made, clients[0]


async def test_a_commit_is_resumed_with_much_time(made: tuple[KafkaProducer, Client]) -> None:
    """Guards against librdkafka's abort(), where its thread comes too late for a short slice."""
    kafka, client = made
    await kafka.commit(math.inf)
    assert client.slices == [1, 5, 5]


@pytest.mark.parametrize("call", [KafkaProducer.init, KafkaProducer.abort])
async def test_other_calls_are_asked_for_a_second_at_a_time(
    made: tuple[KafkaProducer, Client], call: Callable[[KafkaProducer], Awaitable[None]]
) -> None:
    """Guards against a stop that waits for Kafka."""
    kafka, client = made
    await call(kafka)
    assert client.slices == [1, 1, 1]


async def test_a_commit_that_is_resumed_is_no_stall(
    made: tuple[KafkaProducer, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a sink that is restarted because Kafka takes its time."""
    kafka, client = made
    ctx = ActorContext("sink", stall_after_s=1.0)
    ctx.arm()
    seen = []
    real = client._ask

    def asked(seconds: float) -> None:
        seen.append(ctx.waiting_for)
        real(seconds)

    monkeypatch.setattr(client, "commit_transaction", asked, raising=False)
    await kafka.commit(math.inf)
    assert seen == [None, "Kafka, to commit the Kafka transaction", "Kafka, to commit the Kafka transaction"]
    assert ctx.waiting_for is None


async def test_a_commit_is_given_up_at_its_deadline(
    made: tuple[KafkaProducer, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a commit that is asked about for ever."""
    kafka, client = made
    monkeypatch.setattr(Client, "late", 10)
    with pytest.raises(Doubt):
        await kafka.commit(trio.current_time() - 1)
    assert client.slices == [1]


async def test_records_that_are_not_taken_until_the_deadline_are_late(
    made: tuple[KafkaProducer, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards a slow line against transactions that are given up and made again as large as they were."""
    kafka, _ = made
    monkeypatch.setattr(Client, "__len__", lambda _: 1)
    monkeypatch.setattr(producer, "_flush", lambda _: None)
    assert not kafka.late
    with pytest.raises(Doubt, match="send_timeout_secs"):
        await kafka.flush(trio.current_time() - 1)
    assert kafka.late


@pytest.mark.parametrize(("code", "late"), [(KafkaError._MSG_TIMED_OUT, True), (KafkaError._TRANSPORT, False)])
async def test_a_record_that_timed_out_was_late(made: tuple[KafkaProducer, Client], code: int, late: bool) -> None:
    """Guards the same where `delivery.timeout.ms` is over first, and against any failure that counts as a slow line."""
    kafka, _ = made
    await trio.to_thread.run_sync(kafka._on_delivery, KafkaError(code), cast("Message", Refused()))
    assert kafka.late == late
    assert kafka.failure is not None


def test_what_only_a_person_can_mend_is_not_hidden_by_what_follows_from_it() -> None:
    """Guards the operator's time: librdkafka says that all brokers are down after it has said why."""
    client = KafkaProducer({}, brokers="b:9092", oauth=None)
    for name in ("_TRANSPORT", "_AUTHENTICATION", "_ALL_BROKERS_DOWN"):
        client._on_error(KafkaError(getattr(KafkaError, name), name))
    assert client.last_error is not None
    assert "_AUTHENTICATION" in client.last_error.line()
    client.last_error = None
    client._on_error(KafkaError(KafkaError._ALL_BROKERS_DOWN, "down"))
    assert client.last_error is not None
    assert client.failure is None
