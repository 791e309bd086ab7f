"""The page on security: its role, its address and its token, on a server that wants TLS and a password."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from deltaforge.embedded.ports import HOST, free_ports
from tests.ledger.workload import make_tables
from tests.support.databases import Database
from tests.support.orders import insert_orders
from tests.support.pages import PAGES, blocks
from tests.support.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deltaforge.embedded.postgres import PostgresServer
    from tests.support.fix_tls import Certificates

PAGE = "docs/explanation/security.md"
ROLE, ENCRYPTED, TOKEN = f"{PAGE} sql 1", f"{PAGE} bash 1", f"{PAGE} bash 2"


@pytest.fixture
def server(make_postgres: Callable[..., PostgresServer], certificates: Certificates) -> PostgresServer:
    """A server with TLS that lets in the test, whom the page says, and nobody else."""
    (line,) = re.findall(r"^hostssl .*$", PAGES[PAGE], re.MULTILINE)
    made = make_postgres(
        15,
        options={"ssl": "on", "ssl_cert_file": "server.pem", "ssl_key_file": "server.key"},
        hba=(
            "host all postgres 127.0.0.1/32 trust",
            line.replace("10.0.0.0/16", "127.0.0.1/32"),
            "host all all 127.0.0.1/32 reject",
            "host replication all 127.0.0.1/32 reject",
        ),
        files={
            "server.pem": certificates.server.certificate.read_bytes(),
            "server.key": certificates.server.key.read_bytes(),
        },
    )
    made.start()
    return made


@pytest.fixture
def orders(server: PostgresServer) -> Database:
    """The database `orders` of the page, with its tables and without the example's publication."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE orders")
    database = Database(server, "orders")
    make_tables(database.dsn())
    database.execute("DROP PUBLICATION orders_pub")
    return database


@pytest.fixture
def terminal(orders: Database, certificates: Certificates) -> Iterator[Terminal]:
    """A clone, with what stands for the server of the page and its authority."""
    port = free_ports(1)[0]
    changes = [
        ("db.example:5432", f"{HOST}:{orders.server.port}"),
        ("/etc/ssl/certs/postgres-ca.pem", str(certificates.ca)),
        ("deltaforge examples/", f"deltaforge --api-addr {HOST}:{port} examples/"),
        ("0.0.0.0:8080", f"0.0.0.0:{port}"),
        ("localhost:8080", f"{HOST}:{port}"),
    ]
    address = f"postgres://deltaforge:secret@{HOST}:{orders.server.port}/orders?sslrootcert={certificates.ca}"
    with tempfile.TemporaryDirectory(prefix="test-docs-") as folder:
        made = Terminal(Path(folder), {"POSTGRES_DSN": f"{address}&sslmode=verify-full"}, changes)
        try:
            yield made
        finally:
            made.close()


@pytest.mark.slow
def test_the_rights_and_settings_of_the_page_are_enough_and_not_too_many(
    terminal: Terminal, orders: Database, kafka_jars: None
) -> None:
    """Guards against advice that does not work, after which somebody gives the role everything."""
    for statement in blocks("sql")[ROLE].split(";"):
        if statement.strip():
            orders.execute(statement)

    # The role may stream what is published, over TLS, and nothing else.
    running = terminal.start(blocks("bash")[ENCRYPTED])
    running.wait_for("is valid", "running")
    insert_orders(orders, [1])
    running.wait_for('{"topic":')
    assert running.ctrl_c() == 0, running.output()
    own = orders.server.dsn("deltaforge", "secret", "orders", sslmode="require")
    with psycopg.connect(own) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT * FROM orders")
    for address in (own.replace("require", "disable"), own.replace("secret", "wrong"), f"{own}&replication=true"):
        with pytest.raises(psycopg.OperationalError, match=r"pg_hba\.conf|password authentication failed"):
            psycopg.connect(address).close()

    # The token opens what is closed without it.
    answers = terminal.run(blocks("bash")[TOKEN])
    assert '"name":"orders-to-stdout"' in answers
    assert '{"state":"ready"}' in answers.replace("\n", "")
