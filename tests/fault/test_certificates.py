"""The product's certificate for Kafka runs out while it works, and is exchanged under way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from deltaforge.embedded.kafka import KafkaCluster
from deltaforge.embedded.kafka_conf import Listener
from tests.fault.sizes import FULL
from tests.ledger.workload import make_tables
from tests.support.fix_tls import private_pem
from tests.support.instances import alive, wait_told
from tests.support.kafka_clients import mtls_conf
from tests.support.kafka_topics import create_topic
from tests.support.orders import insert_orders, seen_orders, wait_for_orders
from tests.support.pipelines import local, with_security, write
from tests.support.process import Deltaforge

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.databases import Database
    from tests.support.fix_tls import Authority, Certificates

pytestmark = pytest.mark.slow

VALID_S = 40.0
"""From before the product starts; it has to be at work by then."""


@pytest.fixture
def encrypted(kafka_jars: None, certificates: Certificates) -> Iterator[KafkaCluster]:
    """A broker that asks for a client's certificate."""
    with KafkaCluster(listeners=[Listener.MTLS], tls=certificates.server) as cluster:
        yield cluster


if FULL:

    @pytest.mark.fault("K15")
    def test_a_certificate_that_ran_out_is_told_and_its_successor_taken_without_a_restart(
        encrypted: KafkaCluster, certificates: Certificates, database: Database, topic_prefix: str, tmp_path: Path
    ) -> None:
        """Guards against files that are read once, and against a wait for brokers that are there."""
        make_tables(database.dsn())
        topic = create_topic(encrypted.bootstrap(), f"{topic_prefix}.events", 1)
        files = tmp_path / "client.pem", tmp_path / "client.key"
        security = mtls_conf(encrypted, certificates) | dict(
            zip(("ssl.certificate.location", "ssl.key.location"), map(str, files), strict=True)
        )
        servers = {"POSTGRES_DSN": database.dsn(), "KAFKA_BROKERS": security.pop("bootstrap.servers")}
        del security["ssl.key.password"]
        file = write(tmp_path / "pipeline.yaml", with_security(local(topic_prefix, topic), security))
        # GIVEN a pipeline at work with a certificate that is soon no longer valid
        runs_out = time.monotonic() + VALID_S
        _issue(certificates.authority, files, VALID_S)
        with Deltaforge(file, servers, name="certificates") as product:
            product.wait_ready()
            insert_orders(database, [1])
            wait_for_orders(encrypted.bootstrap(), topic, [1], lambda: alive(product))
            # WHEN it has to connect again after that
            time.sleep(max(0.0, runs_out + 1 - time.monotonic()))
            encrypted.stop_node(1)
            encrypted.start_node(1)
            insert_orders(database, [2])
            # THEN it says whose matter that is
            wait_told(product, topic_prefix, "blocked", "certificate")
            # AND goes on with a new one in the same place
            _issue(certificates.authority, files, 3600)
            wait_for_orders(encrypted.bootstrap(), topic, [1, 2], lambda: alive(product))
            assert product.term() == 0, product.tail()
        assert seen_orders(encrypted.bootstrap(), topic) == [1, 2]


def _issue(authority: Authority, files: tuple[Path, Path], valid_s: float) -> None:
    content, key = authority.issue("deltaforge-client", server=False, valid_s=valid_s)
    for file, text in zip(files, (content, private_pem(key)), strict=True):
        file.touch(mode=0o600)
        file.write_bytes(text)
