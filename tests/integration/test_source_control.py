"""The control session and connection errors, on real servers."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest
import trio

from deltaforge.config.dsn import parse_dsn
from deltaforge.errors import OperatorError, Refused, TransientError
from deltaforge.model import PgType
from deltaforge.source import conn, faults, session, slot
from deltaforge.source.sql import ControlSession
from tests.support.canaries import leaks
from tests.support.databases import CDC_PASSWORD
from tests.support.reader_rig import reading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from deltaforge.embedded.postgres import PostgresServer
    from tests.support.databases import Database
    from tests.support.fix_tls import Certificates

WRONG_PASSWORD = "n0t-the-passw0rd"


@asynccontextmanager
async def controlling(dsn: str, slot_name: str = "s", publication: str = "p") -> AsyncIterator[ControlSession]:
    """A control session with a bound on the whole test."""
    with trio.fail_after(60):
        async with ControlSession(parse_dsn(dsn), slot_name, publication) as control:
            yield control


async def test_facts_of_a_table_are_what_its_definition_says(
    each_postgres: PostgresServer, make_database: Callable[[PostgresServer], Database]
) -> None:
    """Wrong keys, defaults or types make wrong records, on any version."""
    database = make_database(each_postgres)
    database.execute("CREATE TYPE mood AS ENUM ('ok', 'bad')")
    database.execute("ALTER TYPE mood ADD VALUE 'fair' BEFORE 'bad'")
    database.execute("CREATE DOMAIN price AS numeric(6,2)")
    database.execute("CREATE DOMAIN net_price AS price NOT NULL")
    database.execute(
        "CREATE TABLE t (b int, a int DEFAULT 5, v varchar(9) DEFAULT 'x''y', m mood DEFAULT 'ok', n net_price,"
        " l int[], p point, g int GENERATED ALWAYS AS (a + 1) STORED, PRIMARY KEY (a, b))"
    )
    oid = database.value("SELECT 't'::regclass::oid::bigint")
    type_oids = dict(database.rows("SELECT attname, atttypid::bigint FROM pg_attribute WHERE attrelid = 't'::regclass"))

    async with controlling(database.dsn()) as control:
        facts = await control.relation_facts(oid)
        types = await control.types(type_oids.values())
        gone = await control.relation_facts(2**32 - 2)
        successor = await control.relation_facts(2**32 - 2, "public", "t")

    assert facts.key == ("a", "b")
    assert {name for name, fact in facts.columns.items() if fact.not_null} == {"a", "b", "n"}
    assert {name: fact.default for name, fact in facts.columns.items() if fact.default} == {
        "a": "5",
        "v": "'x''y'::character varying",
        "m": "'ok'::mood",
    }
    assert types[type_oids["m"]] == PgType(type_oids["m"], "mood", "e", "public", labels=("ok", "fair", "bad"))
    assert types[type_oids["l"]].element == PgType(23, "int4")
    assert types[type_oids["p"]].element is None
    domain = types[type_oids["n"]]
    assert (domain.kind, domain.base, domain.base_modifier) == ("d", PgType(1700, "numeric"), (6 << 16) + 2 + 4)
    assert (gone.key, gone.columns) == ((), {})
    assert successor == facts


@pytest.mark.fault("G11")
@pytest.mark.parametrize(
    ("definition", "index", "key"),
    [
        ("a int, b int NOT NULL UNIQUE", "", ("b",)),
        ("a int UNIQUE, b int", "", ("a",)),
        ("a int, b int, UNIQUE (b) INCLUDE (a)", "", ("b", "a")),
        ("a int, b int, UNIQUE (b) DEFERRABLE", "", ("b",)),
        ("a int, b int, PRIMARY KEY (b) INCLUDE (a)", "UNIQUE INDEX a ON t (a)", ("b",)),
        ("a int, b int", "UNIQUE INDEX a ON t (a) WHERE b > 3", ("a",)),
        ("a int, b int", "UNIQUE INDEX a ON t (a, (b + 1))", ()),
        ("a int, b int UNIQUE", "UNIQUE INDEX a ON t ((a + 1))", ("b",)),
        ("a int, b int UNIQUE", "UNIQUE INDEX a ON t (a); CLUSTER t USING t_b_key", ("b",)),
        (
            "a int, b int UNIQUE NOT NULL",
            "UNIQUE INDEX a ON t (a); ALTER TABLE t REPLICA IDENTITY USING INDEX t_b_key",
            ("a",),
        ),
        ("a int, b int", "INDEX a ON t (a)", ()),
    ],
)  # fmt: skip
async def test_the_key_of_a_table_is_the_one_that_debezium_finds(
    database: Database, definition: str, index: str, key: tuple[str, ...]
) -> None:
    """Guards against records in other partitions than Debezium's. Recorded with a live one."""
    database.execute(f"CREATE TABLE t ({definition})")
    if index:
        database.execute(f"CREATE {index}")

    async with controlling(database.dsn()) as control:
        facts = await control.relation_facts(database.value("SELECT 't'::regclass::oid::bigint"))

    assert facts.key == key


@pytest.mark.fault("G9")
async def test_a_missing_publication_names_the_statement_that_creates_it(database: Database) -> None:
    """An error that leaves the reader of it to find out; the statement has to run as it stands."""
    database.execute('CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE "Odd one" (id int PRIMARY KEY)')
    database.execute("CREATE TABLE order_items (id int) PARTITION BY RANGE (id)")
    database.execute("CREATE TABLE order_items_1 PARTITION OF order_items FOR VALUES FROM (0) TO (10)")

    async with controlling(database.dsn(), publication="shop-pub") as control:
        with pytest.raises(OperatorError, match='"shop-pub" does not exist') as caught:
            await control.check_publication(["public.orders", "public.order_%", "public.Odd one"])
        statement = caught.value.hint.removeprefix("create it: ")
        assert statement == (
            'CREATE PUBLICATION "shop-pub" FOR TABLE public."Odd one", public.order_items, public.orders;'
        )
        database.execute(statement)
        report = await control.check_publication(["public.orders", "public.order_%", "public.Odd one"])

    assert set(report.tables) == {"public.orders", "public.Odd one", "public.order_items_1"}


@pytest.mark.fault("G9")
async def test_a_publication_that_lacks_a_named_table_is_refused_with_the_statement_that_adds_it(
    database: Database,
) -> None:
    """A table nobody notices to be missing from the stream."""
    database.execute("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
    database.execute("CREATE PUBLICATION p FOR TABLE a")

    async with controlling(database.dsn()) as control:
        with pytest.raises(OperatorError, match=r"lacks public\.b") as caught:
            await control.check_publication(["public.a", "public.b"])
        assert caught.value.hint == "add it: ALTER PUBLICATION p ADD TABLE public.b;"
        with pytest.raises(OperatorError, match=r"no table public\.c"):
            await control.check_publication(["public.a", "public.c"])
        report = await control.check_publication(["public.%"])

    assert report.tables == ("public.a",)
    assert report.warnings == ("publication p lacks public.b, which public.% matches",)


@pytest.mark.fault("G15")
async def test_a_partitioned_table_published_by_its_partitions_is_explained(database: Database) -> None:
    """`FOR ALL TABLES` that seems to lack a table."""
    database.execute("CREATE TABLE m (id int PRIMARY KEY) PARTITION BY RANGE (id)")
    database.execute("CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (10)")
    database.execute("CREATE PUBLICATION p FOR ALL TABLES")

    async with controlling(database.dsn()) as control:
        with pytest.raises(OperatorError, match="publishes the partitions instead"):
            await control.check_publication(["public.m"])
        database.execute("ALTER PUBLICATION p SET (publish_via_partition_root = true)")
        assert (await control.check_publication(["public.m"])).tables == ("public.m",)


@pytest.mark.fault("G9", "G11", "D4")
async def test_filters_missing_operations_and_identities_are_warned_of(database: Database) -> None:
    """Rows, columns or operations that are silently not streamed, and an application whose UPDATE will fail."""
    database.execute("CREATE TABLE a (id int PRIMARY KEY, x int); CREATE TABLE n (id int); CREATE TABLE f (id int)")
    database.execute("ALTER TABLE f REPLICA IDENTITY FULL")
    database.execute("CREATE PUBLICATION p FOR TABLE a (id) WHERE (id > 3), n, f WITH (publish = 'insert, update')")

    async with controlling(database.dsn()) as control:
        report = await control.check_publication(["public.%"])

    warnings = "\n".join(report.warnings)
    assert len(report.warnings) == 4
    assert "does not publish delete, truncate" in warnings
    assert "row filter on public.a" in warnings
    assert "column list on public.a" in warnings
    assert "public.n has no replica identity" in warnings


async def test_the_slots_state_is_seen_with_its_holder(database: Database) -> None:
    """A guard that compares positions of different moments, or takes a free slot for a held one."""
    database.execute("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t")
    name = f"s_{database.name}"

    async with controlling(database.dsn(), name) as control:
        absent = await control.slot_state()
        point = await slot.create_slot(parse_dsn(database.dsn()), name)
        free = await control.slot_state()
        async with reading(database.dsn(), name) as rig:
            lease = await rig.lease()
            held = await control.slot_state()

    assert (absent.exists, absent.active_pid, absent.wal_status) == (False, 0, "")
    assert (free.exists, free.active_pid, free.confirmed_flush, free.wal_status) == (True, 0, point, "reserved")
    assert free.current_wal >= point
    assert held.active_pid == lease.walsender_pid
    assert held.database == database.name


async def test_a_cancelled_query_leaves_the_session_usable(database: Database) -> None:
    """The answer of a cancelled query given to the next one."""
    async with controlling(database.dsn()) as control:
        for _ in range(3):
            with trio.move_on_after(0.1) as scope:
                await control._query("SELECT pg_sleep(600)", {}, "sleeping")
            assert scope.cancelled_caught
            assert (await control.identify()).database == database.name


async def test_many_tasks_may_ask_at_once_and_each_gets_its_own_answer(database: Database) -> None:
    """Two queries on one connection at the same time."""
    answers: dict[int, int] = {}

    async with controlling(database.dsn()) as control, trio.open_nursery() as nursery:

        async def ask(number: int) -> None:
            ((answer,),) = await control._query("SELECT %(n)s::int", {"n": number}, "asking")
            answers[number] = answer

        for number in range(50):
            nursery.start_soon(ask, number)

    assert answers == {number: number for number in range(50)}


@pytest.mark.fault("G3")
async def test_a_terminated_session_is_opened_again_without_an_error(database: Database) -> None:
    """An idle connection closed by the server reported as a server that is away."""
    async with controlling(database.dsn()) as control:
        await control.identify()
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
            [database.name],
        )
        assert (await control.identify()).database == database.name


@pytest.mark.fault("G18")
async def test_no_time_limit_of_the_role_ends_a_query_that_has_to_wait(database: Database) -> None:
    """A server that is taken for away because somebody's DDL holds a lock on the catalog."""
    limits = ("statement_timeout", "lock_timeout", "idle_session_timeout", "transaction_timeout")
    database.execute("CREATE PUBLICATION p")
    for name in limits:
        database.execute(f"ALTER DATABASE {database.name} SET {name} = '50ms'")
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'deltaforge control'"
        " AND wait_event_type = 'Lock' AND clock_timestamp() > query_start + interval '200ms'"
    )
    unlimited = database.dsn(options=" ".join(f"-c {name}=0" for name in limits))
    with psycopg.connect(unlimited) as other, psycopg.connect(unlimited, autocommit=True) as watch:
        other.execute("LOCK TABLE pg_publication IN ACCESS EXCLUSIVE MODE")
        async with controlling(database.dsn()) as control, trio.open_nursery() as nursery:
            nursery.start_soon(control.check_publication, [])
            while watch.execute(waiting).fetchone() != (1,):  # noqa: ASYNC110 - the server is asked
                await trio.sleep(0.02)
            other.rollback()


async def test_the_server_is_checked_before_a_start(database: Database) -> None:
    """A role that may not replicate and a slot of another kind are found by name, not by a failing command."""
    name = f"s_{database.name}"
    database.execute(f"CREATE ROLE weak_{database.name} LOGIN")
    try:
        async with controlling(database.server.dsn(f"weak_{database.name}", dbname=database.name)) as control:
            with pytest.raises(OperatorError, match="may not replicate") as caught:
                await control.check_server()
        assert caught.value.hint == f"as a superuser: ALTER ROLE weak_{database.name} REPLICATION"
    finally:
        database.execute(f"DROP ROLE weak_{database.name}")
    database.rows("SELECT pg_create_physical_replication_slot(%s)", [name])
    try:
        async with controlling(database.dsn(), name) as control:
            with pytest.raises(OperatorError, match="is a physical slot"):
                await control.check_server()
    finally:
        database.rows("SELECT pg_drop_replication_slot(%s)", [name])


@pytest.mark.fault("G5")
async def test_a_slot_of_another_database_is_refused(
    database: Database, make_database: Callable[[PostgresServer], Database]
) -> None:
    """A pipeline started on a wrong database that waits for ever."""
    name = f"s_{database.name}"
    await slot.create_slot(parse_dsn(database.dsn()), name)

    async with controlling(make_database(database.server).dsn(), name) as control:
        with pytest.raises(Refused, match=f"belongs to database {database.name}"):
            await control.check_server()


def _wrong(database: Database, certificates: Certificates, kind: str) -> str:
    """A DSN for PostgreSQL 15 with one thing wrong."""
    server, name, ca = database.server, database.name, str(certificates.ca)
    tls = {"sslmode": "verify-full", "sslrootcert": ca}
    strange = {"sslmode": "verify-full", "sslrootcert": str(certificates.stranger_ca)}
    return {
        "password": server.dsn("cdc", WRONG_PASSWORD, name, **tls),
        "no password": server.dsn("cdc", "", name, **tls),
        "user": server.dsn("nobody_here", WRONG_PASSWORD, name, **tls),
        "database": server.dsn("cdc", CDC_PASSWORD, "no_such_db", **tls),
        "no tls": server.dsn("cdc", CDC_PASSWORD, name, sslmode="disable"),
        "ca": server.dsn("cdc", CDC_PASSWORD, name, **strange),
        "ca file": server.dsn("cdc", CDC_PASSWORD, name, sslmode="verify-full", sslrootcert=ca + ".missing"),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("password", "check user and password"),
        ("no password", "check user and password"),
        ("user", "check user and password"),
        ("database", "database name"),
        ("no tls", "pg_hba.conf"),
        ("ca", "sslrootcert"),
        ("ca file", "sslrootcert"),
    ],
)
async def test_a_wrong_dsn_is_the_operators_to_mend_and_shows_no_secret(
    database15: Database, certificates: Certificates, kind: str, hint: str
) -> None:
    """A wrong password retried as if the server were away, or printed."""
    dsn = _wrong(database15, certificates, kind)
    lines = []

    with trio.fail_after(60):
        with pytest.raises(OperatorError) as stream_error:
            (await conn.connect(parse_dsn(dsn))).close()
        async with controlling(dsn) as control:
            with pytest.raises(OperatorError) as control_error:
                await control.identify()
        async with reading(dsn) as rig:
            lines.append(await rig.state("blocked"))

    for caught in (stream_error, control_error):
        assert hint in caught.value.hint
        lines += [caught.value.line(), repr(caught.value), str(caught.getrepr(showlocals=False))]
    for line in lines:
        assert WRONG_PASSWORD not in line
        assert not leaks(line)


@pytest.mark.fault("N6")
async def test_a_server_that_is_not_there_is_waited_for(database: Database) -> None:
    """A server that is down for maintenance counted as a crash or as a configuration error."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

        async with reading(f"postgresql://cdc:{WRONG_PASSWORD}@127.0.0.1:{port}/db") as rig:
            detail = await rig.state("waiting")

    assert "refused" in detail.lower()
    assert WRONG_PASSWORD not in detail


@pytest.mark.fault("N4")
async def test_a_server_that_never_answers_is_given_up_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection attempt that hangs for ever: the port is open, nobody speaks."""
    monkeypatch.setattr(session, "CONNECT_S", 0.2)
    listener = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener[0].socket.getsockname()[1]
    dsn = f"postgresql://cdc@127.0.0.1:{port}/db"

    with trio.fail_after(30):
        with pytest.raises(TransientError, match="no answer within"):
            await conn.connect(parse_dsn(dsn))
        async with controlling(dsn) as control:
            with pytest.raises(TransientError, match="no answer within"):
                await control.identify()
    await listener[0].aclose()


@pytest.mark.fault("N6")
async def test_a_dead_first_host_does_not_hide_the_second(database: Database) -> None:
    """A list of hosts of which only the first is ever tried."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        ports = f"{taken.getsockname()[1]},{database.server.port}"
        dsn = f"host=127.0.0.1,localhost port={ports} user=postgres dbname={database.name}"

        with trio.fail_after(30):
            with await conn.connect(parse_dsn(dsn)) as connection:
                rows = await connection.simple_query("IDENTIFY_SYSTEM")
            async with controlling(dsn) as control:
                identity = await control.identify()

    assert rows[0][3] == database.name.encode()
    assert identity.database == database.name


@pytest.mark.fault("N6")
async def test_an_unknown_host_name_is_waited_for() -> None:
    """A name service that is down for a moment ends the process."""
    with trio.fail_after(30), pytest.raises(TransientError, match="cannot resolve"):
        await conn.connect(parse_dsn("postgresql://u@no-such-host.invalid/db"))


async def test_a_server_error_leaves_the_replication_session_usable(database: Database) -> None:
    """Results that nobody read, taken for those of the next command."""
    with trio.fail_after(30), await conn.connect(parse_dsn(database.dsn())) as connection:
        with pytest.raises(OperatorError):
            await connection.simple_query("TIMELINE_HISTORY 7")
        with pytest.raises(faults.SlotMissing):
            await connection.start_copy(slot.start_command("no_such_slot", "p", server_version=180000))
        rows = await connection.simple_query("IDENTIFY_SYSTEM")

    assert rows[0][1] == b"1"
