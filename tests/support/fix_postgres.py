"""Real PostgreSQL servers, each started on first use and once per session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from deltaforge.embedded.errors import BinariesMissing, DemoPackagesMissing
from deltaforge.embedded.postgres import PostgresServer
from tests.support.available import unavailable
from tests.support.databases import Database, create_database, drop_database, prepare_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.support.fix_tls import Certificates

VERSIONS = (14, 15, 16, 17, 18)
_OPTIONS = {"max_prepared_transactions": "20"}
# Over TLS with a password, except for the superuser, whom the fixtures use.
_TLS_HBA = (
    "host all postgres 127.0.0.1/32 trust",
    "hostssl all all 127.0.0.1/32 scram-sha-256",
    "host all all 127.0.0.1/32 reject",
)


def _serve(
    version: int,
    options: Mapping[str, str] | None = None,
    hba: Sequence[str] = (),
    files: Mapping[str, bytes] | None = None,
) -> Iterator[PostgresServer]:
    server = PostgresServer(version, options={**_OPTIONS, **(options or {})}, hba=hba, files=files)
    try:
        server.start()
    except (BinariesMissing, DemoPackagesMissing) as error:
        server.close()
        unavailable(error)
    except BaseException:
        server.close()
        raise
    try:
        prepare_server(server)
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def postgres18() -> Iterator[PostgresServer]:
    """PostgreSQL 18: no TLS, everybody trusted."""
    yield from _serve(18)


@pytest.fixture(scope="session")
def postgres(postgres18: PostgresServer) -> PostgresServer:
    """The server for tests that do not care which: PostgreSQL 18."""
    return postgres18


@pytest.fixture(scope="session")
def postgres17() -> Iterator[PostgresServer]:
    """PostgreSQL 17 (failover slots since this version)."""
    yield from _serve(17)


@pytest.fixture(scope="session")
def postgres16() -> Iterator[PostgresServer]:
    """PostgreSQL 16."""
    yield from _serve(16)


@pytest.fixture(scope="session")
def postgres15(certificates: Certificates) -> Iterator[PostgresServer]:
    """PostgreSQL 15 with TLS, where everybody but the superuser needs TLS and a SCRAM password."""
    yield from _serve(
        15,
        options={"ssl": "on", "ssl_cert_file": "server.pem", "ssl_key_file": "server.key", "ssl_ca_file": "ca.pem"},
        hba=_TLS_HBA,
        files={
            "server.pem": certificates.server.certificate.read_bytes(),
            "server.key": certificates.server.key.read_bytes(),
            "ca.pem": certificates.ca.read_bytes(),
        },
    )


@pytest.fixture(scope="session")
def postgres14() -> Iterator[PostgresServer]:
    """PostgreSQL 14, the oldest one supported by its makers."""
    yield from _serve(14, options={"password_encryption": "scram-sha-256"})


@pytest.fixture(params=VERSIONS, ids=lambda version: f"pg{version}")
def each_postgres(request: pytest.FixtureRequest) -> PostgresServer:
    """The test runs once on every version."""
    server = request.getfixturevalue(f"postgres{request.param}")
    assert isinstance(server, PostgresServer)
    return server


@pytest.fixture
def make_postgres() -> Iterator[Callable[..., PostgresServer]]:
    """Makes servers of the test's own, not started; takes the arguments of `PostgresServer`, closes all at the end."""
    made: list[PostgresServer] = []

    def make(*arguments: Any, **settings: Any) -> PostgresServer:
        made.append(PostgresServer(*arguments, **settings))
        try:
            made[-1].bin_dir.exists()
        except (BinariesMissing, DemoPackagesMissing) as error:
            unavailable(error)
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def make_database() -> Iterator[Callable[[PostgresServer], Database]]:
    """Makes databases on any server; all are dropped with their slots after the test."""
    made: list[Database] = []

    def make(server: PostgresServer) -> Database:
        database = create_database(server)
        made.append(database)
        return database

    yield make
    for database in made:
        drop_database(database)


@pytest.fixture
def database(postgres: PostgresServer, make_database: Callable[[PostgresServer], Database]) -> Database:
    """A fresh database on PostgreSQL 18."""
    return make_database(postgres)


@pytest.fixture
def database15(postgres15: PostgresServer, certificates: Certificates) -> Iterator[Database]:
    """A fresh database on PostgreSQL 15, reached over TLS with the certificate verified."""
    fresh = create_database(postgres15, {"sslmode": "verify-full", "sslrootcert": str(certificates.ca)})
    yield fresh
    drop_database(fresh)
