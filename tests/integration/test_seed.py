"""The example's pipeline file, unchanged, against three Kafka nodes with TLS and passwords, and PostgreSQL with TLS."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from deltaforge.embedded.kafka_conf import Listener
from tests.ledger.judge import judge
from tests.ledger.workload import Workload, make_tables
from tests.support.fix_tls import CLIENT_KEY_PASSWORD
from tests.support.kafka_clients import SCRAM_PASSWORD, SCRAM_USER
from tests.support.kafka_topics import delete_topic, end_offsets, topic_names
from tests.support.mounts import placed
from tests.support.pipelines import (
    SEED,
    SEED_CHECKPOINTS,
    SEED_NAME,
    SEED_TOPIC,
    Document,
    seed,
    with_security,
    with_tuning,
    without_security,
    write,
)
from tests.support.process import Deltaforge
from tests.support.topics import LiveReader, read

if TYPE_CHECKING:
    from pathlib import Path

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.support.databases import Database
    from tests.support.fix_tls import Certificates

pytestmark = pytest.mark.slow
CA = "/etc/ssl/certs/kafka-ca.pem"
ROWS = 4_000
MTLS = {
    "security.protocol": "SSL",
    "ssl.ca.location": CA,
    "ssl.certificate.location": "/etc/ssl/certs/client.pem",
    "ssl.key.location": "/etc/ssl/private/client.key",
    "ssl.key.password": "${SSL_KEY_PASSWORD}",
}
HIGH_THROUGHPUT: Document = {
    "client_conf": {"acks": "1", "batch.size": "131072", "linger.ms": "50", "compression.type": "lz4"},
    "batch": {"max_events": 5000, "max_ms": 200, "max_inflight": 8},
}
LOW_LATENCY: Document = {
    "client_conf": {"acks": "1", "batch.size": "16384", "linger.ms": "0", "compression.type": "none"},
    "batch": {"max_events": 100, "max_ms": 10, "max_inflight": 2},
}
MAXIMUM_DURABILITY: Document = {
    "client_conf": {
        "acks": "all",
        "enable.idempotence": "true",
        "max.in.flight.requests.per.connection": "5",
        "retries": "2147483647",
    },
    "exactly_once": True,
    "batch": {"respect_source_tx": True, "max_inflight": 1},
}


@pytest.fixture
def cluster(kafka3: KafkaCluster) -> KafkaCluster:
    """Three nodes with the example's topic, made as the example says, and no trace of an earlier run."""
    bootstrap = kafka3.bootstrap()
    for topic in (SEED_TOPIC, SEED_CHECKPOINTS):
        if topic in topic_names(bootstrap):
            delete_topic(bootstrap, topic)
    factors = ["--partitions", "12", "--replication-factor", "3", "--config", "min.insync.replicas=2"]
    create = ["--create", "--topic", SEED_TOPIC, *factors, "--bootstrap-server", bootstrap]
    kafka3.run_tool("org.apache.kafka.tools.TopicCommand", *create)
    return kafka3


def _servers(cluster: KafkaCluster, database: Database, listener: Listener) -> dict[str, str]:
    return {
        "POSTGRES_DSN": database.cdc_dsn(),
        "KAFKA_BROKERS": cluster.bootstrap(listener),
        "KAFKA_USERNAME": SCRAM_USER,
        "KAFKA_PASSWORD": SCRAM_PASSWORD,
        "SSL_KEY_PASSWORD": CLIENT_KEY_PASSWORD,
    }


def _moves_everything(product: Deltaforge, cluster: KafkaCluster, database: Database) -> None:
    """Run the product under a workload; a read_committed reader must see exactly what the SQL did."""
    make_tables(database.dsn())
    with product:
        product.wait_ready()
        with Workload(database.dsn(), seed=11) as load:
            load.wait_for_rows(ROWS)
        expected = load.expected()
        with LiveReader(cluster.bootstrap(), SEED_TOPIC) as reader:
            reader.wait_for(expected.events + expected.tombstones)
        assert product.term() == 0, product.tail()
    verdict = judge(read(cluster.bootstrap(), SEED_TOPIC), expected)
    assert verdict.clean, str(verdict)
    assert verdict.events == expected.events > ROWS / 2
    assert len({mark for mark, end in end_offsets(cluster.bootstrap(), SEED_TOPIC).items() if end}) == 12


def test_the_unchanged_file_moves_every_row_over_sasl_ssl(
    cluster: KafkaCluster, database15: Database, certificates: Certificates
) -> None:
    """Guards against an example that only works after somebody edits it."""
    wrapper = placed({CA: certificates.ca})
    servers = _servers(cluster, database15, Listener.SASL)
    _moves_everything(Deltaforge(SEED, servers, wrapper=wrapper, name="seed"), cluster, database15)


def test_the_mutual_tls_fragment_moves_every_row(
    cluster: KafkaCluster, database15: Database, certificates: Certificates, tmp_path: Path
) -> None:
    """Guards against a client certificate or its key password that never reaches librdkafka."""
    client = certificates.client
    places = {CA: certificates.ca, MTLS["ssl.certificate.location"]: client.certificate}
    wrapper = placed({**places, MTLS["ssl.key.location"]: client.encrypted_key})
    file = write(tmp_path / "mtls.yaml", with_security(seed(), MTLS))
    servers = _servers(cluster, database15, Listener.MTLS)
    _moves_everything(Deltaforge(file, servers, wrapper=wrapper, name="mtls"), cluster, database15)


@pytest.mark.parametrize(
    "fragment", [HIGH_THROUGHPUT, LOW_LATENCY, MAXIMUM_DURABILITY], ids=["throughput", "latency", "durability"]
)
def test_a_tuning_fragment_moves_every_row(
    fragment: Document, cluster: KafkaCluster, database: Database, certificates: Certificates, tmp_path: Path
) -> None:
    """Guards against settings that librdkafka refuses, such as acks=1 beside deltaforge's own idempotence."""
    wrapper = placed({CA: certificates.ca})
    file = write(tmp_path / "tuned.yaml", with_tuning(seed(), fragment))
    servers = _servers(cluster, database, Listener.SASL)
    _moves_everything(Deltaforge(file, servers, wrapper=wrapper, name="tuned"), cluster, database)


def test_the_running_steps_of_the_example_work(
    cluster: KafkaCluster, database15: Database, certificates: Certificates
) -> None:
    """Guards against documented steps, addresses and metric names that do not exist."""
    make_tables(database15.dsn())
    wrapper = placed({CA: certificates.ca})
    servers = _servers(cluster, database15, Listener.SASL)
    with Deltaforge(SEED, servers, wrapper=wrapper, name="steps") as product:
        product.wait_ready()
        database15.execute("insert into orders (id, customer_id, total, created_at) values (1, 2, 3.5, now())")
        with LiveReader(cluster.bootstrap(), SEED_TOPIC) as reader:
            reader.wait_for(1)
        assert product.ask("/health")[0] == 200
        view = product.pipeline(SEED_NAME)
        assert (view["name"], view["tenant"], view["state"]) == (SEED_NAME, "acme", "running")
        labels = {"pipeline": SEED_NAME, "sink": "orders-kafka"}
        assert product.metric("deltaforge_sink_events_sent_total", **labels) == 1
        assert product.metric("deltaforge_sink_send_latency_seconds_count", **labels) >= 1
        assert product.metric("deltaforge_sink_errors_total", pipeline=SEED_NAME) == 0
        assert product.metric("deltaforge_checkpoint_lag_events", pipeline=SEED_NAME) == 0
        assert product.term() == 0, product.tail()


def test_a_key_that_is_written_reads_back_as_the_example_promises(
    cluster: KafkaCluster, database: Database, tmp_path: Path
) -> None:
    """Guards against keys of several tables that collide in the shared topic: order 1 and payment of order 1."""
    make_tables(database.dsn())
    servers = _servers(cluster, database, Listener.PLAINTEXT)
    with Deltaforge(write(tmp_path / "open.yaml", without_security(seed())), servers, name="keys") as product:
        product.wait_ready()
        database.execute("insert into order_items (order_id, line, sku) values (1, 1, 'A')")
        with LiveReader(cluster.bootstrap(), SEED_TOPIC) as reader:
            reader.wait_for(1)
            key: dict[str, Any] = json.loads(reader.records[0].key or b"")
        table = f"{SEED_NAME}.public.order_items"
        assert list(key.items()) == [("order_id", 1), ("line", 1), ("__dbz__physicalTableIdentifier", table)]
