"""The servers for demo and tests are real, keep what they are given and leave nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from confluent_kafka import Producer

from tests.support.kafka_clients import TokenSource, mtls_conf, oauth_conf, plain_conf, scram_conf
from tests.support.kafka_log import dump_log
from tests.support.kafka_topics import create_topic, read_topic

if TYPE_CHECKING:
    from deltaforge.embedded.kafka import KafkaCluster
    from deltaforge.embedded.postgres import PostgresServer
    from tests.support.databases import Database
    from tests.support.fix_tls import Certificates


def test_every_postgres_decodes_logically(each_postgres: PostgresServer) -> None:
    """Guards against a server without logical decoding, or of another version than it says."""
    with psycopg.connect(each_postgres.dsn(), autocommit=True) as connection:
        assert connection.info.server_version // 10_000 == each_postgres.version
        connection.execute("SELECT pg_create_logical_replication_slot('probe', 'pgoutput')")
        connection.execute("SELECT pg_drop_replication_slot('probe')")


def test_postgres_15_wants_tls_and_a_password(database15: Database, certificates: Certificates) -> None:
    """Guards against TLS tests that pass on a server which asks for nothing."""
    with psycopg.connect(database15.cdc_dsn()) as connection:
        assert connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (True,)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(database15.cdc_dsn(sslmode="disable"))
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(database15.cdc_dsn(sslrootcert=str(certificates.stranger_ca)))


@pytest.mark.parametrize("listener", ["plain", "scram", "mtls", "oauth"])
def test_every_listener_takes_records(
    kafka3: KafkaCluster, certificates: Certificates, topic_prefix: str, listener: str
) -> None:
    """Guards against a listener that is open but cannot be logged in to."""
    topic = create_topic(kafka3.bootstrap(), f"{topic_prefix}.listener", 3)
    conf = {
        "plain": lambda: plain_conf(kafka3),
        "scram": lambda: scram_conf(kafka3, certificates),
        "mtls": lambda: mtls_conf(kafka3, certificates),
        "oauth": lambda: oauth_conf(kafka3, certificates, TokenSource()),
    }[listener]()
    producer = Producer({**conf, "acks": "all"})
    producer.produce(topic, key=b"k", value=listener.encode(), headers=[("h", b"1")])
    assert producer.flush(60) == 0
    (record,) = read_topic(kafka3.bootstrap(), topic)
    assert (record.key, record.value, record.headers) == (b"k", listener.encode(), (("h", b"1"),))


def test_the_log_shows_committed_and_aborted_transactions(kafka: KafkaCluster, topic_prefix: str) -> None:
    """Guards against fault tests that cannot see whether a transaction was left open."""
    topic = create_topic(kafka.bootstrap(), f"{topic_prefix}.tx")
    producer = Producer({**plain_conf(kafka), "transactional.id": topic})
    producer.init_transactions(30)
    for value, finish in ((b"kept", producer.commit_transaction), (b"dropped", producer.abort_transaction)):
        producer.begin_transaction()
        producer.produce(topic, value=value)
        producer.flush(30)
        finish(30)
    assert [record.value for record in read_topic(kafka.bootstrap(), topic)] == [b"kept"]
    raw = [record.value for record in read_topic(kafka.bootstrap(), topic, "read_uncommitted")]
    assert raw == [b"kept", b"dropped"]
    batches = dump_log(kafka, topic)
    assert [batch.marker for batch in batches] == [None, "COMMIT", None, "ABORT"]
    assert {batch.producer_id for batch in batches} == {batches[0].producer_id}
