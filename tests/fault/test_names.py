"""The servers' names stop resolving, and come back with another address."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.ledger.workload import make_tables
from tests.proxy.proxy import Proxy
from tests.support.databases import create_database, drop_database
from tests.support.instances import Site, alive, wait_told
from tests.support.mounts import placed
from tests.support.orders import insert_orders, seen_orders, wait_for_orders
from tests.support.process import Deltaforge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deltaforge.embedded.kafka import KafkaCluster
    from deltaforge.embedded.postgres import PostgresServer

pytestmark = [pytest.mark.slow, pytest.mark.fault("N6")]

HOSTS = "/etc/hosts"
POSTGRES, KAFKA = "postgres.test", "kafka.test"
HERE, ELSEWHERE = "127.0.0.1", "127.0.0.2"


@pytest.fixture
def site(kafka: KafkaCluster, postgres: PostgresServer, tmp_path: Path) -> Iterator[Site]:
    """One database with the tables."""
    database = create_database(postgres)
    make_tables(database.dsn())
    with Site(kafka, database, tmp_path, f"h{database.name[-8:]}") as made:
        yield made
    drop_database(database)


@pytest.fixture
def addresses(postgres: PostgresServer) -> Iterator[tuple[Proxy, Proxy]]:
    """The server at two addresses, with the same port."""
    with (
        Proxy(postgres.host, postgres.port) as here,
        Proxy(postgres.host, postgres.port, listen_host=ELSEWHERE, listen_port=here.port) as elsewhere,
    ):
        yield here, elsewhere


def test_a_name_that_stops_resolving_is_waited_for_and_followed_to_another_address(
    site: Site, addresses: tuple[Proxy, Proxy], tmp_path: Path
) -> None:
    """Guards a failover by the name service: an address remembered for ever, or an exit while there is none."""
    here, elsewhere = addresses
    pipeline = site.pipeline("names")
    hosts = tmp_path / "hosts"
    hosts.write_text(f"{HERE} {POSTGRES}")
    server = site.database.server
    product = Deltaforge(
        pipeline.file,
        {
            "POSTGRES_DSN": site.database.dsn().replace(f"{server.host}:{server.port}/", f"{POSTGRES}:{here.port}/"),
            "KAFKA_BROKERS": f"{KAFKA}:{site.bootstrap.rpartition(':')[2]}",
        },
        wrapper=placed({HOSTS: hosts}),
        name="names",
    )
    with product:
        # GIVEN a broker whose name is not known yet
        wait_told(product, pipeline.name, "starting", KAFKA)
        seen_by_it = Path(f"/proc/{product.pid}/root{HOSTS}")
        seen_by_it.write_text(f"{HERE} {POSTGRES}\n{HERE} {KAFKA}\n")
        product.wait_ready()
        insert_orders(site.database, [1])
        wait_for_orders(site.bootstrap, pipeline.topic, [1], lambda: alive(product))
        # WHEN the server is gone from its address, and then from the name service
        here.refuse()
        here.cut()
        wait_told(product, pipeline.name, "starting", "cannot connect", f"{POSTGRES}:{here.port}")
        seen_by_it.write_text(f"{HERE} {KAFKA}\n")
        wait_told(product, pipeline.name, "starting", f"cannot resolve {POSTGRES}", "the name service")
        # THEN it is found where the name leads to next
        seen_by_it.write_text(f"{ELSEWHERE} {POSTGRES}\n{HERE} {KAFKA}\n")
        insert_orders(site.database, [2])
        wait_for_orders(site.bootstrap, pipeline.topic, [2], lambda: alive(product))
        assert elsewhere.statistics().accepted > 0
        assert seen_orders(site.bootstrap, pipeline.topic) == [1, 2]
        assert product.term() == 0, product.tail()
