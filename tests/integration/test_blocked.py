"""What somebody has to put right outside: said in one line everywhere, and gone on from without a restart.

One process runs a pipeline for each situation, so that they wait side by side. Two servers are down when it starts: a
PostgreSQL that wants passwords and lacks logical replication, and a Kafka that would create topics by itself.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
import pytest
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]  # no __all__

from deltaforge.embedded.kafka import KafkaCluster
from deltaforge.embedded.postgres import PostgresServer
from tests.ledger.workload import make_tables
from tests.support.databases import CDC_USER, prepare_server
from tests.support.kafka_topics import ADMIN_S, create_topic, topic_names
from tests.support.orders import wait_until
from tests.support.scene import Scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.databases import Database
    from tests.support.scene import Told

pytestmark = pytest.mark.slow

WRONG_PASSWORD = "wrong-password-canary-5Lb"
HBA = ("host all postgres 127.0.0.1/32 trust", "host all all 127.0.0.1/32 scram-sha-256")
PLAIN_ROLE = "may_not_replicate"
CREATE = {"partitions": 3, "replication_factor": 1, "config": {"retention.ms": 7654321, "min.insync.replicas": 1}}
TOO_MANY = {"partitions": 1, "replication_factor": 3}


@dataclass(kw_only=True)
class Blocked(Scene):
    """The scene with its servers. The `late` ones are down when the process starts."""

    postgres: PostgresServer
    kafka: KafkaCluster
    late_postgres: PostgresServer
    late_kafka: KafkaCluster
    databases: dict[str, Database] = field(default_factory=dict)
    at_start: dict[str, Told] = field(default_factory=dict)
    """What was said while both late servers were down."""

    def situate(self, name: str, *statements: str, **sink: object) -> None:
        """A pipeline with a database of its own on the server that is there, changed by these statements."""
        made = self.databases[name] = self.database(self.postgres)
        for statement in statements:
            made.execute(statement)
        user = PLAIN_ROLE if name == "no-right" else "postgres"
        dsn = made.server.dsn(user, dbname=made.name)
        self.pipeline(name, dsn, self.kafka, with_topic="topics" not in name, **sink)


def _on_late_servers(scene: Blocked) -> None:
    late = scene.databases["late"] = scene.database(scene.late_postgres)
    scene.pipeline("postgres-late", late.dsn(), scene.kafka)
    scene.pipeline("wrong-password", late.server.dsn(CDC_USER, WRONG_PASSWORD, late.name), scene.kafka)
    scene.pipeline("no-database", late.server.dsn(dbname="nowhere"), scene.kafka)
    with psycopg.connect(late.server.dsn(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET wal_level = replica")
    scene.late_postgres.stop()
    on_time = scene.databases["kafka-late"] = scene.database(scene.postgres)
    scene.pipeline("kafka-late", on_time.dsn(), scene.late_kafka, with_topic=False)


@pytest.fixture(scope="module")
def scene(postgres: PostgresServer, kafka: KafkaCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Blocked]:
    """The process and all servers. PostgreSQL's `late` one comes up without logical replication."""
    with ExitStack() as stack:
        late_postgres = stack.enter_context(PostgresServer(18, hba=HBA))
        prepare_server(late_postgres)
        late_kafka = KafkaCluster(1, options={"auto.create.topics.enable": "true"})
        stack.callback(late_kafka.close)
        scene = Blocked(
            directory=tmp_path_factory.mktemp("blocked"),
            stack=stack,
            postgres=postgres,
            kafka=kafka,
            late_postgres=late_postgres,
            late_kafka=late_kafka,
        )
        with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {PLAIN_ROLE} LOGIN")
        stack.callback(_drop_role, postgres)
        scene.situate("no-publication", "DROP PUBLICATION orders_pub")
        scene.situate("no-table", "ALTER PUBLICATION orders_pub DROP TABLE payments")
        scene.situate("no-right")
        scene.situate("no-topics")
        scene.situate("no-topics-at-least-once", exactly_once=False)
        scene.situate("creates-topics", create_topics=CREATE)
        scene.situate("too-many-topics", create_topics=TOO_MANY)
        scene.situate("left-out", "ALTER TABLE orders ADD COLUMN tip pg_lsn")
        unreadable = {"security.protocol": "SSL", "ssl.ca.location": str(scene.directory / "ca.pem")}
        scene.situate("no-authority", client_conf=unreadable)
        _on_late_servers(scene)
        scene.start()
        scene.at_start["postgres"] = scene.told("postgres-late", "starting", "cannot connect")
        scene.at_start["kafka"] = scene.told("kafka-late", "starting", "brokers")
        late_postgres.start()
        late_kafka.start()
        yield scene
        assert WRONG_PASSWORD not in scene.product.text()


def _drop_role(server: PostgresServer) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"DROP ROLE {PLAIN_ROLE}")


@pytest.mark.fault("G9")
def test_a_missing_publication_is_asked_for_in_sql_that_can_be_pasted(scene: Blocked) -> None:
    """Guards against an error that sends its reader to the manual."""
    statement = "CREATE PUBLICATION orders_pub FOR TABLE public.order_items, public.orders, public.payments;"
    scene.told("no-publication", "blocked", "does not exist").says(f"(create it: {statement})")
    database = scene.databases["no-publication"]
    assert database.value("select count(*) from pg_replication_slots where database = current_database()") == 0

    database.execute(statement)

    scene.delivers("no-publication", database, scene.kafka)


@pytest.mark.fault("G9")
def test_a_table_that_is_not_published_is_named_with_the_statement_that_adds_it(scene: Blocked) -> None:
    """Guards against a table that is silently left out."""
    statement = "ALTER PUBLICATION orders_pub ADD TABLE public.payments;"
    scene.told("no-table", "blocked", "lacks public.payments").says(statement)

    scene.databases["no-table"].execute(statement)

    scene.runs("no-table")


def test_a_role_that_may_not_replicate_is_named(scene: Blocked) -> None:
    """Guards against PostgreSQL's own words, which do not say what to grant."""
    statement = f"ALTER ROLE {PLAIN_ROLE} REPLICATION"
    scene.told("no-right", "blocked", "may not replicate").says(statement)

    scene.databases["no-right"].execute(statement)

    scene.runs("no-right")


@pytest.mark.fault("K10")
@pytest.mark.parametrize("name", ["no-topics", "no-topics-at-least-once"])
def test_a_missing_topic_is_named_with_the_command_that_creates_it(scene: Blocked, name: str) -> None:
    """Guards against topics made with the broker's defaults, and against a slot for a pipeline that cannot work."""
    topic, bootstrap = scene.topic(name), scene.kafka.bootstrap()
    command = f"kafka-topics.sh --bootstrap-server {bootstrap} --create --topic {topic} "
    scene.told(name, "blocked", "does not exist").says(topic, command, "create_topics")
    database = scene.databases[name]
    assert database.value("select count(*) from pg_replication_slots where database = current_database()") == 0

    words = [word for word in command.split()[1:] if word]
    scene.kafka.run_tool("org.apache.kafka.tools.TopicCommand", *words)

    scene.delivers(name, database, scene.kafka)


@pytest.mark.fault("K10")
def test_create_topics_makes_the_topic_as_it_says(scene: Blocked) -> None:
    """Guards against a wish that is taken half, and against calling a topic missing that was just made."""
    name = "creates-topics"
    scene.delivers(name, scene.databases[name], scene.kafka)

    admin = AdminClient({"bootstrap.servers": scene.kafka.bootstrap()})
    resource = ConfigResource(ConfigResource.Type.TOPIC, scene.topic(name))
    settings = admin.describe_configs([resource])[resource].result(ADMIN_S)
    assert len(admin.list_topics(scene.topic(name), timeout=ADMIN_S).topics[scene.topic(name)].partitions) == 3
    assert (settings["retention.ms"].value, settings["min.insync.replicas"].value) == ("7654321", "1")
    assert scene.product.metric("deltaforge_actor_retries_total", pipeline=scene.name(name), actor="reader") == 0


def test_a_topic_that_cannot_be_created_is_the_operators_to_mend(scene: Blocked) -> None:
    """Guards against crashes, and then the end, for a number in the file."""
    topic = scene.topic("too-many-topics")
    scene.told("too-many-topics", "blocked", "INVALID_REPLICATION_FACTOR").says(topic, "too few brokers")

    # The second one would be made for logical messages.
    for missing in (topic, f"{scene.name('too-many-topics')}.message"):
        create_topic(scene.kafka.bootstrap(), missing)

    scene.runs("too-many-topics")


@pytest.mark.fault("K15")
def test_a_file_of_client_conf_that_is_not_there_is_named(scene: Blocked) -> None:
    """Guards against OpenSSL's words, which name neither the file nor what is wrong with it."""
    file = scene.directory / "ca.pem"
    scene.told("no-authority", "blocked", "No such file").says(f"cannot read {file} (ssl.ca.location)")

    file.write_text("no certificate")

    scene.told("no-authority", "blocked", "ssl.ca.location failed")


@pytest.mark.fault("D3")
def test_a_column_that_cannot_be_written_is_named_in_the_log(scene: Blocked) -> None:
    """Guards against a column that readers miss months later."""
    scene.delivers("left-out", scene.databases["left-out"], scene.kafka)

    told = '"column": "public.orders.tip"'
    wait_until(lambda: told in scene.product.text(), "a warning about the column", scene.alive)


@pytest.mark.fault("N6")
def test_servers_that_are_down_at_the_start_are_named_and_waited_for(scene: Blocked) -> None:
    """Guards against an ok in /health from a process that reaches nobody, and against an exit for a matter of order."""
    address = f"postgres@127.0.0.1:{scene.late_postgres.port}/{scene.databases['late'].name}"
    scene.at_start["postgres"].says(address, "is the server up")
    scene.at_start["kafka"].says(scene.late_kafka.bootstrap(), "are the brokers up")


@pytest.mark.fault("G7")
def test_what_is_wrong_with_a_server_is_named_piece_by_piece(scene: Blocked) -> None:
    """Guards against a restart of ours for each thing that was mended in PostgreSQL."""
    database = scene.databases["late"]
    scene.told("postgres-late", "blocked", "wal_level is replica").says("ALTER SYSTEM SET wal_level = logical")
    scene.told("wrong-password", "blocked", "password authentication failed").says(CDC_USER, "check user and password")
    scene.told("no-database", "blocked", '"nowhere" does not exist').says("correct the database name in the DSN")

    database.execute(f"ALTER ROLE {CDC_USER} PASSWORD '{WRONG_PASSWORD}'")
    database.execute("CREATE DATABASE nowhere")
    make_tables(database.server.dsn(dbname="nowhere"))
    scene.told("wrong-password", "blocked", "wal_level is replica")
    scene.told("no-database", "blocked", "wal_level is replica")
    database.execute("ALTER SYSTEM SET wal_level = logical")
    database.server.restart()

    scene.delivers("postgres-late", database, scene.kafka)
    scene.runs("wrong-password")
    scene.runs("no-database")


@pytest.mark.fault("K10")
def test_a_broker_that_creates_topics_by_itself_is_kept_from_it(scene: Blocked) -> None:
    """Guards against a data topic with one partition and nobody's settings, for asking whether it is there."""
    topic, bootstrap = scene.topic("kafka-late"), scene.late_kafka.bootstrap()
    scene.told("kafka-late", "blocked", topic, "does not exist").says(f"--bootstrap-server {bootstrap} --create")
    assert not {name for name in topic_names(bootstrap) if not name.startswith("__")}

    create_topic(bootstrap, topic, 2)

    scene.delivers("kafka-late", scene.databases["kafka-late"], scene.late_kafka)
