"""The product alone in a network of its own: where packets are lost, and where there is nothing but IPv6."""

from __future__ import annotations

import faulthandler
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from deltaforge.embedded.ports import HOST, free_ports
from tests.fault.sizes import FULL, SEED
from tests.ledger.workload import make_tables
from tests.proxy.cluster import ProxiedKafka
from tests.proxy.proxy import Proxy
from tests.support.instances import alive
from tests.support.kafka_topics import create_topic
from tests.support.networks import FAR, NEAR, LossyLine, Network
from tests.support.orders import insert_orders, seen_orders, wait_for_orders
from tests.support.pipelines import local, write
from tests.support.process import Deltaforge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.databases import Database

pytestmark = pytest.mark.slow

TRANSACTIONS, ROWS = 20, 25
LOSSES = (0.01, 0.1, 0.3) if FULL else (0.05,)
IPV6 = "::1"
READY_S = 300.0
"""A handshake of several lost packets waits for a second, two, four and so on."""


@dataclass(frozen=True)
class Inside:
    """The product in the network, and what it reaches and is reached through."""

    product: Deltaforge
    topic: str
    kafka: ProxiedKafka


@contextmanager
def inside(
    network: Network, database: Database, prefix: str, folder: Path, *, listens: str, reached: str, api: str
) -> Iterator[Inside]:
    """Start the product in the network, with ways to both servers, and for the test to its admin endpoint.

    Args:
      listens: the address at which the ways to the servers begin.
      reached: the address under which the product knows them.
      api: the product's own address.
    """
    make_tables(database.dsn())
    server, port = database.server, free_ports(1)[0]
    bracketed = f"[{reached}]" if ":" in reached else reached
    with ExitStack() as stack:
        kafka = stack.enter_context(ProxiedKafka(listen_host=listens, told_host=bracketed, network=network))
        with network.entered():
            to_postgres = Proxy(server.host, server.port, listen_host=listens, listen_port=port)
        stack.enter_context(to_postgres)
        topic = create_topic(kafka.direct, f"{prefix}.events", 1)
        product = Deltaforge(
            write(folder / "pipeline.yaml", local(prefix, topic)),
            {
                "POSTGRES_DSN": database.dsn().replace(f"{server.host}:{server.port}/", f"{bracketed}:{port}/"),
                "KAFKA_BROKERS": kafka.bootstrap,
            },
            wrapper=network.wrapper(),
            name="inside",
        )
        product.listen_at(api)
        to_admin = Proxy(api, product.port, listen_port=product.port)
        with network.entered():
            stack.enter_context(to_admin)
        stack.enter_context(product)
        yield Inside(product, topic, kafka)


@pytest.mark.fault("N2")
@pytest.mark.parametrize("loss", LOSSES)
def test_lost_packets_lose_and_double_no_rows(
    loss: float,
    kafka_jars: None,
    database: Database,
    topic_prefix: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Guards what TCP makes of a bad line: long silences, connections given up, answers that come late or never."""
    if FULL:
        # Longer than pytest's own patience.
        faulthandler.cancel_dump_traceback_later()
    wanted = range(1, TRANSACTIONS * ROWS + 1)
    with (
        Network() as network,
        LossyLine(network, loss, SEED) as line,
        inside(network, database, topic_prefix, tmp_path, listens=NEAR, reached=FAR, api=HOST) as there,
    ):
        there.product.wait_ready(READY_S)
        for first in wanted[::ROWS]:
            insert_orders(database, range(first, first + ROWS))
        wait_for_orders(there.kafka.direct, there.topic, wanted, lambda: alive(there.product), READY_S)
        assert there.product.term() == 0, there.product.tail()
        found = Counter(seen_orders(there.kafka.direct, there.topic))
        record_property("verdict", {"lost": len(wanted) - len(found), "doubled": found.total() - len(found)})
        record_property("packets", {"lost": line.lost, "passed": line.passed})
        assert found == Counter(wanted)
        assert line.lost > 0


@pytest.mark.fault("N6")
def test_a_machine_without_ipv4_is_enough(
    kafka_jars: None, database: Database, topic_prefix: str, tmp_path: Path
) -> None:
    """Guards against an address of IPv4 that is asked for somewhere, and addresses in brackets read wrong."""
    with (
        Network(ipv4=False) as network,
        inside(network, database, topic_prefix, tmp_path, listens=IPV6, reached=IPV6, api=IPV6) as there,
    ):
        there.product.wait_ready()
        insert_orders(database, [1, 2])
        wait_for_orders(there.kafka.direct, there.topic, [1, 2], lambda: alive(there.product))
        assert there.product.term() == 0, there.product.tail()
        assert seen_orders(there.kafka.direct, there.topic) == [1, 2]
