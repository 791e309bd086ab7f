"""README.md and docs/ are true: what they tell a reader to type is typed, what they link to is there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import yaml

from deltaforge.config.load import load_bytes
from deltaforge.embedded.ports import HOST, accepts, free_ports
from deltaforge.sinks.kafka.client_conf import check_client_conf
from tests.ledger.workload import make_tables
from tests.support.databases import Database, drop_database
from tests.support.kafka_topics import delete_topic, topic_names
from tests.support.orders import insert_orders, wait_until
from tests.support.pages import PAGES, REPOSITORY, anchors, blocks, links
from tests.support.pipelines import SEED_CHECKPOINTS, SEED_TOPIC, seed, without_security, write
from tests.support.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deltaforge.embedded.kafka import KafkaCluster
    from deltaforge.embedded.postgres import PostgresServer
    from tests.support.terminal import Running

README_DEMO, README_TESTS, README_RUN = (f"README.md bash {number}" for number in (1, 2, 3))
DEMO, ASK_DEMO, CHANGE_DEMO, STDOUT, TOPIC, RUN, ASK, BREAK = (f"docs/tutorial.md bash {n}" for n in range(1, 9))
WAL_LEVEL, ROLE, DROP_SLOT = (f"docs/tutorial.md sql {number}" for number in (1, 2, 3))
CONSUME = "docs/explanation/delivery.md bash 1"
OBSERVE = "docs/observability.md bash 1"
LINE = "docs/sinks/file.md json 1"

FIRST_STEPS = {README_DEMO, DEMO, ASK_DEMO, CHANGE_DEMO}
OWN_SERVERS = {WAL_LEVEL, ROLE, STDOUT, TOPIC, README_RUN, OBSERVE, CONSUME, RUN, ASK, BREAK, DROP_SLOT}
REPLACE = {f"docs/howto/replace-debezium.md {name}" for name in ("bash 1", "bash 2", "sql 1", "sql 2")}
"""Executed in test_docs_replace.py."""
SECURITY = {f"docs/explanation/security.md {name}" for name in ("sql 1", "bash 1", "bash 2")}
"""Executed in test_docs_security.py."""
NOT_EXECUTED = {README_TESTS: "it is this test run"}
ENVIRONMENT = {
    "POSTGRES_DSN": "postgres://user:password@localhost:5432/orders",
    "KAFKA_BROKERS": "kafka1:9093",
    "KAFKA_USERNAME": "deltaforge",
    "KAFKA_PASSWORD": "secret",
    "DATABASE_PASSWORD": "secret",
}
OF_A_SINK = {"create_topics", "envelope", "key", "topic"}
"""Fragments that are a part of the Kafka sink's settings; others are a part of `spec`, or a whole file."""


# -- what needs no server


def test_every_command_is_executed_or_says_why_not() -> None:
    """Guards against instructions that nobody has ever followed."""
    assert blocks("bash", "sql").keys() == FIRST_STEPS | OWN_SERVERS | REPLACE | SECURITY | NOT_EXECUTED.keys()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Guards against dead ends."""
    for link in links(page):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (REPOSITORY / page).parent / path if path else REPOSITORY / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


def test_every_page_can_be_reached_from_the_readme() -> None:
    """Guards against pages that nobody finds."""
    seen, ahead = set(), ["README.md"]
    while ahead:
        page = ahead.pop()
        if page in PAGES and page not in seen:
            seen.add(page)
            ahead += [os.path.normpath(Path(page).parent / link.partition("#")[0]) for link in links(page)]
    assert seen == PAGES.keys()


@pytest.mark.parametrize("name", blocks("yaml"))
def test_a_fragment_of_a_pipeline_file_loads(name: str) -> None:
    """Guards against settings that were renamed in the code only."""
    fragment = yaml.safe_load(blocks("yaml")[name])
    document = without_security(seed())
    for key, value in fragment.items():
        place = document["spec"]["sinks"][0]["config"] if key in OF_A_SINK else document["spec"]
        place[key] = value
    if "apiVersion" in fragment:
        document = fragment
    file = Path("fragment.yaml")

    loaded = load_bytes(yaml.safe_dump(document).encode(), file, ENVIRONMENT, sink_checks=[check_client_conf])

    assert loaded.error is None, str(loaded.error)


def test_the_command_line_page_has_every_option_and_no_other() -> None:
    """Guards against flags that exist in one of the two only."""
    asked = {}
    for command in ("run", "validate", "demo"):
        call = [sys.executable, "-m", "deltaforge", command, "--help"]
        shown = subprocess.run(call, capture_output=True, text=True, check=True, cwd=REPOSITORY).stdout
        asked[command] = set(re.findall(r"--[a-z-]+", shown)) - {"--help"}
    page = PAGES["docs/reference/cli.md"]
    assert set(re.findall(r"^\| `(--[a-z-]+)", page, re.MULTILINE)) | {"--config"} == asked["run"]
    assert set(re.findall(r"--[a-z][a-z-]+", page)) == asked["run"] | asked["demo"] | {"--version"}


# -- the demo


@contextmanager
def _terminal(environment: dict[str, str], changes: list[tuple[str, str]]) -> Iterator[Terminal]:
    # Not one of pytest's directories: PostgreSQL's own account has to get through.
    with tempfile.TemporaryDirectory(prefix="test-docs-") as folder:
        Path(folder).chmod(0o755)
        terminal = Terminal(Path(folder), environment, changes)
        try:
            yield terminal
        finally:
            terminal.close()


@pytest.mark.slow
def test_the_first_steps_lead_to_first_events(kafka_jars: None) -> None:
    """Guards against a newcomer who gives up in the first five minutes."""
    commands, first, second = blocks("bash"), *free_ports(2)
    ports = [("deltaforge demo", f"deltaforge demo --api-addr {HOST}:{first}")]
    mine = [("deltaforge demo", f"deltaforge demo --api-addr {HOST}:{second}"), ("localhost:8080", f"{HOST}:{second}")]
    with _terminal({}, ports) as readme, _terminal({}, mine) as tutorial:
        demos = [terminal.start(commands[name]) for terminal, name in ((readme, README_DEMO), (tutorial, DEMO))]
        for demo in demos:
            demo.wait_for("that was the first event")
        answers = tutorial.run(commands[ASK_DEMO])
        port = re.search(r"postgresql://postgres@127.0.0.1:(\d+)/", demos[1].output())
        assert port is not None
        changed = tutorial.run(commands[CHANGE_DEMO].replace("PORT", port[1]))
        codes, said = [demo.ctrl_c() for demo in demos], [demo.output() for demo in demos]

    assert '"state":"ok"' in answers
    assert '"name":"orders-to-kafka-prod"' in answers
    assert "deltaforge_sink_events_sent_total" in answers
    assert "UPDATE 1" in changed
    assert codes[0] == 0, said[0]
    assert "changes of your own count too" in said[1]
    assert all("nothing is left running" in output for output in said)
    assert not accepts(first)


# -- servers of one's own


@pytest.fixture
def orders(postgres: PostgresServer) -> Iterator[Database]:
    """The database `orders` of the pages, with its tables; role and publication are made by a block."""
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE orders")
    database = Database(postgres, "orders")
    make_tables(database.dsn())
    database.execute("DROP PUBLICATION orders_pub")
    yield database
    drop_database(database)
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS deltaforge")


@pytest.fixture
def port() -> int:
    """Of the admin HTTP."""
    return free_ports(1)[0]


@pytest.fixture
def terminal(orders: Database, kafka: KafkaCluster, port: int) -> Iterator[Terminal]:
    """A clone whose example has no security keys, and what stands for the servers of the pages."""
    bootstrap, server = kafka.bootstrap(), f"{HOST}:{orders.server.port}"
    changes = [
        ("localhost:5432", server),
        ("user:password@", "deltaforge:secret@"),
        ("kafka1:9093,kafka2:9093,kafka3:9093", bootstrap),
        ("BROKER:9092", bootstrap),
        ("_deltaforge.PIPELINE.SINK", SEED_CHECKPOINTS),
        ("--replication-factor 3", "--replication-factor 1"),
        ("min.insync.replicas=2", "min.insync.replicas=1"),
        ("deltaforge examples/", f"deltaforge --api-addr {HOST}:{port} --config examples/"),
        ("localhost:8080", f"{HOST}:{port}"),
        ("sleep 10", "sleep 5"),
    ]
    environment = {
        **ENVIRONMENT,
        "POSTGRES_DSN": f"postgres://deltaforge:secret@{server}/orders",
        "KAFKA_BROKERS": bootstrap,
    }
    with _terminal(environment, changes) as made:
        write(made.directory / "examples" / "kafka-prod.yaml", without_security(seed()))
        yield made
    for topic in {SEED_TOPIC, SEED_CHECKPOINTS} & topic_names(bootstrap):
        delete_topic(bootstrap, topic)


def _sql(database: Database, name: str) -> None:
    # As psql does: each statement by itself.
    for statement in blocks("sql")[name].split(";"):
        if statement.strip():
            database.execute(statement)


def _until_ready(running: Running, port: int) -> None:
    def ready() -> bool:
        ask = [sys.executable, "-c", f"import urllib.request as u; u.urlopen('http://{HOST}:{port}/ready')"]
        return accepts(port) and subprocess.run(ask, capture_output=True, check=False).returncode == 0

    wait_until(ready, "/ready says 200", running.alive)


def _same_shape(written: str, shown: str) -> None:
    ours, theirs = json.loads(written), json.loads(shown)
    assert ours.keys() == theirs.keys()
    assert ours["value"].keys() >= theirs["value"].keys()


@pytest.mark.slow
def test_the_tutorial_leads_from_nothing_to_a_pipeline(terminal: Terminal, orders: Database, port: int) -> None:
    """Guards against steps that are missing, in the wrong order, or for another version."""
    commands = blocks("bash")
    _sql(orders, WAL_LEVEL)
    _sql(orders, ROLE)

    # WHEN the first try goes to the terminal
    printing = terminal.start(commands[STDOUT])
    _until_ready(printing, port)
    insert_orders(orders, [1])
    printing.wait_for('{"topic":')
    (line,) = (line for line in printing.output().splitlines() if line.startswith('{"topic":'))
    _same_shape(line, blocks("json")[LINE])
    assert printing.ctrl_c() == 0, printing.output()

    # AND then to Kafka, as the README says it
    terminal.run(commands[TOPIC])
    first = terminal.start(commands[README_RUN])
    _until_ready(first, port)
    assert "pipeline orders-to-kafka-prod is valid" in first.output()
    insert_orders(orders, [2])
    _look_at(terminal, commands)
    assert first.ctrl_c() == 0, first.output()

    # AND as the tutorial says it
    second = terminal.start(commands[RUN])
    _until_ready(second, port)
    assert '"state":"running"' in terminal.run(commands[ASK])
    assert second.ctrl_c() == 0, second.output()

    # AND it is killed and started again, THEN it works
    again = terminal.start(commands[BREAK])
    wait_until(lambda: again.output().count('"admin HTTP"') == 2, "it is started twice", again.alive)
    _until_ready(again, port)
    assert again.ctrl_c() == 0, again.output()
    _sql(orders, DROP_SLOT)


def _look_at(terminal: Terminal, commands: dict[str, str]) -> None:
    """The pages of a running pipeline, and its checkpoint as the delivery page shows it."""
    consumer = terminal.start(commands[CONSUME])
    answers = terminal.run(commands[OBSERVE])
    assert '"state":"ok"' in answers
    assert '"state":"ready"' in answers
    known = set(re.findall(r"^# TYPE (\w+)", answers, re.MULTILINE))
    named = {name for text in PAGES.values() for name in re.findall(r"deltaforge_\w+_\w+", text)}
    named = {name for name in named if name.startswith(("deltaforge_sink", "deltaforge_checkpoint", "deltaforge_slot"))}
    assert named <= known, named - known
    consumer.wait_for("running\t{", "flush_lsn")
    consumer.ctrl_c()
