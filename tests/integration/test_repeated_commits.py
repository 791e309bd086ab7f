"""librdkafka sends a commit again by itself when its first copy may be lost; the producer has to notice each time.

A copy that nobody noticed can arrive during the next transaction and end it too early:
`tests/fault/test_delayed_end_txn.py` shows that it does.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import TYPE_CHECKING, TypeVar

import pytest
import trio

from deltaforge.envelopes.base import Encoded
from deltaforge.sinks.kafka.producer import KafkaProducer
from tests.proxy.frames import Api
from tests.support.kafka_topics import create_topic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from tests.proxy.cluster import ProxiedKafka
    from tests.proxy.rules import Rule

T = TypeVar("T")
LIMIT_S = 120
SEED = int(os.environ.get("DELTAFORGE_SEED", "7"))
REPEATED = 5
# Many losses in a row would otherwise be followed by ten seconds without a connection.
FAST = {"reconnect.backoff.max.ms": "100"}


class Rig:
    """A transactional producer behind a proxy, and who cuts its coordinator's connection."""

    def __init__(self, kafka: ProxiedKafka, topic: str, producer: KafkaProducer, commits: Rule) -> None:
        self.kafka, self.topic, self.producer, self.commits = kafka, topic, producer, commits

    async def fill(self) -> None:
        """A transaction with one record, delivered and not committed."""
        self.producer.begin()
        await self.producer.produce(Encoded([self.topic], [b"key"], [b"value"], [None], 8, 1), [0])
        await self.producer.flush(trio.current_time() + LIMIT_S)

    async def commit(self) -> bool:
        """Commit it. Returns what the producer says."""
        return await self.producer.commit(trio.current_time() + LIMIT_S)

    async def lose(self, how: str) -> None:
        """End the coordinator's connection while nothing is asked on it."""
        number = self.commits.requests[-1].connection
        await away(lambda: getattr(self.kafka.proxy(), how)(lambda connection: connection.number == number))

    async def commit_and_lose(self, how: str) -> tuple[int, bool]:
        """Commit, and end the connection under way. Returns how often EndTxn was sent, and what the producer says."""
        await self.fill()
        before, held = self.commits.matches, self.kafka.hold_request(Api.EndTxn)
        told = [False]

        async def commit() -> None:
            told[0] = await self.commit()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(commit)
            await away(held.wait_hit)
            await self.lose(how)
        return self.commits.matches - before, told[0]


async def away(act: Callable[[], T]) -> T:
    """The proxy's commands block."""
    return await trio.to_thread.run_sync(act)


async def run(
    kafka: ProxiedKafka, name: str, scenario: Callable[[Rig], Awaitable[None]], settings: Mapping[str, str] = FAST
) -> None:
    """Play a scenario with an initialised producer that has these settings of librdkafka."""
    topic = await away(lambda: create_topic(kafka.direct, f"{name}.commits"))
    conf = {"bootstrap.servers": kafka.bootstrap, "transactional.id": name, **settings}
    producer = KafkaProducer(conf, brokers="", oauth=None)
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            await producer.open()
            nursery.start_soon(producer.serve)
            await producer.init()
            await scenario(Rig(kafka, topic, producer, kafka.watch(Api.EndTxn)))
            await producer.close()


@pytest.mark.parametrize("how", ["cut", "reset"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"log_level": "3"},
        {"log.connection.close": "false"},
        {"retry.backoff.ms": "200", "retry.backoff.max.ms": "1", "reconnect.backoff.ms": "0"},
    ],
    ids=str,
)
async def test_a_commit_that_was_sent_twice_is_noticed_whatever_the_settings(
    proxied_kafka: ProxiedKafka, topic_prefix: str, settings: dict[str, str], how: str
) -> None:
    """Guards against settings of the user that hide from us what librdkafka does."""

    async def lose_one(rig: Rig) -> None:
        assert await rig.commit_and_lose(how) == (2, True)

    await run(proxied_kafka, topic_prefix, lose_one, settings)


@pytest.mark.parametrize("how", ["cut", "reset"])
async def test_the_third_loss_in_a_row_is_noticed_though_librdkafka_does_not_tell_it(
    proxied_kafka: ProxiedKafka, topic_prefix: str, how: str
) -> None:
    """Guards against librdkafka's silence: of errors that are alike it logs two, then none for 30 seconds."""

    async def lose_many(rig: Rig) -> None:
        for _ in range(3):
            await rig.fill()
            await rig.commit()
            await rig.lose(how)
        for _ in range(3):
            assert await rig.commit_and_lose(how) == (2, True)

    await run(proxied_kafka, topic_prefix, lose_many)


async def test_a_request_that_times_out_is_noticed(proxied_kafka: ProxiedKafka, topic_prefix: str) -> None:
    """Guards against a second copy that needs no lost connection."""

    async def time_out(rig: Rig) -> None:
        await rig.fill()
        held = proxied_kafka.hold_response(Api.EndTxn)
        told = await rig.commit()
        assert held.hits == 1
        assert (rig.commits.matches, told) == (2, True)

    await run(proxied_kafka, topic_prefix, time_out, {"socket.timeout.ms": "300"})


async def test_a_commit_that_was_merely_slow_is_not_taken_for_a_repeated_one(
    proxied_kafka: ProxiedKafka, topic_prefix: str
) -> None:
    """Guards the throughput on busy brokers, where every commit is slow: a new producer each time halves it."""

    async def be_slow(rig: Rig) -> None:
        for _ in range(3):
            await rig.fill()
            held = proxied_kafka.hold_response(Api.EndTxn)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_release_late, held)
                assert not await rig.commit()
        assert rig.commits.matches == 3

    await run(proxied_kafka, topic_prefix, be_slow)


async def _release_late(held: Rule) -> None:
    await away(held.wait_hit)
    # Longer than retry.backoff.ms.
    await trio.sleep(0.3)
    await away(held.release)


@pytest.mark.slow
async def test_no_repeated_commit_is_missed_in_a_storm_of_losses(
    proxied_kafka: ProxiedKafka, topic_prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards against orders of losses that nobody thought of: about one commit in a hundred is sent twice here."""
    rng = random.Random(SEED)
    tally: Counter[tuple[bool, bool]] = Counter()

    async def weather(rig: Rig) -> None:
        while True:
            await trio.sleep(rng.uniform(0.002, 0.25))
            await rig.lose(rng.choice(("cut", "reset")))

    async def work(rig: Rig) -> None:
        await rig.fill()
        await rig.commit()
        told = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(weather, rig)
            # A commit that may have been repeated ends a producer's life.
            while not told and _repeated(tally) < REPEATED:
                await rig.fill()
                before = rig.commits.matches
                told = await rig.commit()
                tally[rig.commits.matches - before > 1, told] += 1
            nursery.cancel_scope.cancel()

    number = 0
    while _repeated(tally) < REPEATED:
        number += 1
        await run(proxied_kafka, f"{topic_prefix}-{number}", work)
    with capsys.disabled():
        print(f"\nseed {SEED}: (sent twice, noticed): {dict(tally)}")
    assert tally[True, False] == 0


def _repeated(tally: Counter[tuple[bool, bool]]) -> int:
    return tally[True, True] + tally[True, False]
