"""The page on replacing a connector: what it pastes, validates and hands over is done as it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import yaml

from deltaforge.config.debezium import DebeziumOptions
from deltaforge.embedded.ports import HOST, accepts, free_ports
from tests.support.databases import Database, drop_database
from tests.support.kafka_topics import delete_topic, read_topic, topic_names
from tests.support.orders import wait_until
from tests.support.pages import PAGES, blocks
from tests.support.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deltaforge.embedded.kafka import KafkaCluster
    from deltaforge.embedded.postgres import PostgresServer

PAGE = "docs/howto/replace-debezium.md"
TOPICS = ("shop.public.orders", "shop.public.order_items", "shop.public.customers")
BESIDE = ("shop.message", "__debezium-heartbeat.shop", "_deltaforge.shop.kafka")
TABLES = """
create table orders(id int primary key, note text);
create table order_items(order_id int, line int, primary key (order_id, line));
create table customers(id int primary key, password text);
create publication dbz_publication for table orders, order_items, customers;
"""


def connector() -> dict[str, str]:
    """The configuration that the page takes."""
    config: dict[str, str] = json.loads(blocks("json")[f"{PAGE} json 1"])["config"]
    return config


def pipeline() -> str:
    """The pipeline file that the page gives."""
    return blocks("yaml")[f"{PAGE} yaml 1"]


def options_of(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["spec"]["sinks"][0]["config"]["envelope"]["options"]
    return found


def validated(text: str, folder: Path) -> tuple[int, list[str]]:
    """Exit code and lines of `validate`."""
    (folder / "shop.yaml").write_text(text)
    call = [sys.executable, "-m", "deltaforge", "validate", str(folder / "shop.yaml")]
    done = subprocess.run(call, capture_output=True, text=True, check=False, env={"DATABASE_PASSWORD": "secret"})
    return done.returncode, done.stdout.splitlines()


def test_a_pasted_configuration_is_answered_as_shown(tmp_path: Path) -> None:
    """Guards against an option that is silently ignored, and a page that shows another answer."""
    head, _, _ = pipeline().partition("          options:\n")
    pasted = json.dumps(connector(), indent=2).replace("\n", "\n            ")

    code, lines = validated(f"{head}          options: {pasted}\n", tmp_path)

    said = [line.partition(".envelope.options.")[2] for line in lines]
    shown = re.search(r"the place in the file:\n\n```\n(.*?)```", PAGES[PAGE], re.DOTALL)
    assert shown is not None
    assert code == 2
    assert said == shown[1].splitlines()


def test_the_pipeline_file_is_valid_and_keeps_every_option_that_is_not_refused(tmp_path: Path) -> None:
    """Guards against an option of the connector that the pipeline file forgets."""
    code, lines = validated(pipeline(), tmp_path)
    kept = {name: value for name, value in connector().items() if name in DebeziumOptions.__struct_encode_fields__}
    written = options_of(yaml.safe_load(pipeline()))
    assert code == 0, lines
    assert {name: str(value).lower() for name, value in written.items()} == kept


# -- the hand-over, with a slot that stands where a stopped connector has left it


@pytest.fixture
def shop(postgres: PostgresServer) -> Iterator[Database]:
    """The database of the page, with a connector's slot and role."""
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE shop")
        connection.execute("CREATE ROLE debezium LOGIN REPLICATION")
    database = Database(postgres, "shop")
    database.execute(TABLES)
    database.execute("select pg_create_logical_replication_slot('debezium', 'pgoutput')")
    yield database
    drop_database(database)
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute("DROP ROLE debezium")


@pytest.fixture
def port() -> int:
    """Of the admin HTTP."""
    return free_ports(1)[0]


@pytest.fixture
def terminal(shop: Database, kafka: KafkaCluster, port: int) -> Iterator[Terminal]:
    """A directory with the page's pipeline file, and what stands for its servers."""
    bootstrap = kafka.bootstrap()
    text = pipeline().replace("kafka1:9092,kafka2:9092,kafka3:9092", bootstrap)
    text = text.replace("db.example.com:5432", f"{HOST}:{shop.server.port}")
    text = text.replace("replication_factor: 3", "replication_factor: 1")
    with tempfile.TemporaryDirectory(prefix="test-docs-") as folder:
        changes = [("deltaforge shop.yaml", f"deltaforge --api-addr {HOST}:{port} --config shop.yaml")]
        made = Terminal(Path(folder), {"DATABASE_PASSWORD": "secret"}, changes)
        (made.directory / "shop.yaml").write_text(text)
        try:
            yield made
        finally:
            made.close()
    for topic in {*TOPICS, *BESIDE} & topic_names(bootstrap):
        delete_topic(bootstrap, topic)


@pytest.mark.slow
def test_the_slot_of_a_stopped_connector_is_taken_over(
    terminal: Terminal, shop: Database, kafka: KafkaCluster, port: int
) -> None:
    """Guards against a hand-over that loses what is written after it, or repeats what the connector has sent."""
    commands, statements = blocks("bash"), blocks("sql")
    assert "pipeline shop is valid" in terminal.run(commands[f"{PAGE} bash 1"])

    # GIVEN changes that the connector has delivered
    shop.execute("insert into orders values (1, 'sent by the connector')")
    ((plugin, active, *_),) = shop.rows(statements[f"{PAGE} sql 1"])
    assert (plugin, active) == ("pgoutput", False)

    # WHEN the slot is moved behind them and adopted, first without and then with the flag
    ((position,),) = shop.rows(statements[f"{PAGE} sql 2"])
    adopt = commands[f"{PAGE} bash 2"]
    refused = terminal.start(adopt.partition(" --adopt-slot")[0])
    assert refused.wait() == 4, refused.output()
    assert f"--adopt-slot={position}" in refused.output()
    running = terminal.start(adopt.replace("16/B374D848", str(position)))
    wait_until(lambda: accepts(port) and '"state": "running"' in running.output(), "it runs", running.alive)
    shop.execute("insert into orders values (2, 'sent by deltaforge')")
    wait_until(lambda: bool(read_topic(kafka.bootstrap(), TOPICS[0])), "the next change arrives", running.alive)
    assert running.ctrl_c() == 0, running.output()

    # THEN what came after the connector is there, once, and nothing else
    (record,) = read_topic(kafka.bootstrap(), TOPICS[0])
    assert record.key == b'{"id":2}'
