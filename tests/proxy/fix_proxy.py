"""Proxies for tests: before any port, and before brokers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from deltaforge.embedded.ports import HOST
from tests.proxy.cluster import ProxiedKafka
from tests.proxy.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def make_proxy() -> Iterator[Callable[[int], Proxy]]:
    """Starts proxies before ports of 127.0.0.1; all are closed after the test."""
    made: list[Proxy] = []

    def make(port: int) -> Proxy:
        made.append(Proxy(HOST, port))
        made[-1].start()
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


@pytest.fixture(scope="session")
def shared_proxied_kafka(kafka_jars: None) -> Iterator[ProxiedKafka]:
    """One broker behind a proxy, for the session."""
    with ProxiedKafka(1) as kafka:
        yield kafka


@pytest.fixture
def proxied_kafka(shared_proxied_kafka: ProxiedKafka) -> Iterator[ProxiedKafka]:
    """One broker behind a proxy, healed after the test."""
    yield shared_proxied_kafka
    shared_proxied_kafka.heal()


@pytest.fixture(scope="module")
def shared_proxied_kafka3(kafka_jars: None) -> Iterator[ProxiedKafka]:
    """Three brokers, each behind a proxy of its own, for a file of tests."""
    with ProxiedKafka(3) as kafka:
        yield kafka


@pytest.fixture
def proxied_kafka3(shared_proxied_kafka3: ProxiedKafka) -> Iterator[ProxiedKafka]:
    """Three brokers behind proxies, healed after the test."""
    yield shared_proxied_kafka3
    shared_proxied_kafka3.heal()


@pytest.fixture
def make_proxied_kafka(kafka_jars: None) -> Iterator[Callable[..., ProxiedKafka]]:
    """Makes proxied clusters of the test's own, not started; takes the arguments of `ProxiedKafka`."""
    made: list[ProxiedKafka] = []

    def make(nodes: int = 1, **settings: Any) -> ProxiedKafka:
        made.append(ProxiedKafka(nodes, **settings))
        return made[-1]

    yield make
    for kafka in made:
        kafka.close()
