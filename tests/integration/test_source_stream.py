"""Streams of real servers."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import threading
import uuid
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from deltaforge.config.dsn import parse_dsn
from deltaforge.embedded.postgres import PostgresServer
from deltaforge.model import Lsn
from deltaforge.source import conn, faults, frames, slot, stream
from tests.support.databases import create_database
from tests.support.reader_rig import confirmed, eventually, reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.databases import Database


def _name() -> str:
    return f"s_{uuid.uuid4().hex[:12]}"


async def _prepared(database: Database, extra: str = "") -> str:
    """A table, a publication and a slot; its name."""
    name = _name()
    database.execute(f"CREATE TABLE t (id int PRIMARY KEY, v text DEFAULT 'none'); {extra}")
    database.execute("CREATE PUBLICATION p FOR TABLE t")
    await slot.create_slot(parse_dsn(database.dsn()), name)
    return name


def _ids(inserts: list[bytes]) -> list[int]:
    """The first column of Insert messages."""
    return [int(m[13 : 13 + int.from_bytes(m[9:13], "big")]) for m in inserts]


async def test_rows_come_in_order_with_their_relation_and_the_slot_follows_confirmations(
    each_postgres: PostgresServer, make_database: Callable[[PostgresServer], Database]
) -> None:
    """The whole path of a row to the first channel, and of a confirmation back, on every version."""
    database = make_database(each_postgres)
    name = await _prepared(database)

    async with reading(database.dsn(), name) as rig:
        lease = await rig.lease()
        database.execute("INSERT INTO t SELECT i, 'x' FROM generate_series(1, 5000) i")
        seen = await rig.messages(b"I", 5000)
        while not rig.reader.statistics().committed_lsn:
            await rig.chunk()
        end = rig.reader.statistics().committed_lsn
        rig.confirm(end)
        await eventually(
            database,
            "SELECT confirmed_flush_lsn = %s::pg_lsn FROM pg_replication_slots WHERE slot_name = %s",
            str(end),
            name,
        )

    assert _ids(seen) == list(range(1, 5001))
    (relation,) = rig.relations
    assert (relation.schema, relation.table, relation.key) == ("public", "t", (0,))
    assert relation.columns[1].default == "'none'::text"
    assert (lease.epoch, lease.timeline, lease.history, lease.slot) == (1, 1, (), name)
    assert lease.system_id == database.value("SELECT system_identifier::text FROM pg_control_system()")


async def test_the_stream_runs_over_verified_tls_with_a_scram_password(database15: Database) -> None:
    """A password with characters that a URL or libpq quotes, a certificate checked against the host name."""
    name = await _prepared(database15)

    async with reading(database15.cdc_dsn(), name) as rig:
        lease = await rig.lease()
        encrypted = database15.value("SELECT ssl FROM pg_stat_ssl WHERE pid = %s", [lease.walsender_pid])
        database15.execute("INSERT INTO t VALUES (1)")
        assert _ids(await rig.messages(b"I", 1)) == [1]

    assert encrypted


async def test_cancellation_storms_lose_no_message(database: Database) -> None:
    """A message taken from libpq and dropped by a cancellation."""
    name = await _prepared(database)
    seen: list[bytes] = []
    enough, stopped = threading.Event(), threading.Event()
    written: list[int] = []

    def write() -> None:
        with database.connect() as connection:
            while not enough.is_set():
                connection.execute("INSERT INTO t VALUES (%s)", (len(written) + 1,))
                written.append(len(written) + 1)
        stopped.set()

    with trio.fail_after(60), await conn.connect(parse_dsn(database.dsn())) as connection:
        await connection.start_copy(slot.start_command(name, "p", server_version=connection.server_version))
        async with trio.open_nursery() as nursery:
            with ExitStack() as stack:
                nursery.start_soon(trio.to_thread.run_sync, write)
                # A failing test must not leave the writer behind.
                stack.callback(enough.set)
                cancelled = 0
                windows = itertools.cycle((0.00005, 0.0002, 0.0005))
                while not stopped.is_set() or len(seen) < len(written):
                    if cancelled >= 300 and len(seen) >= 500:
                        enough.set()
                    with trio.move_on_after(next(windows)) as scope:
                        seen += [m[25:] for m in await connection.read_available() if m[25:26] == b"I"]
                    cancelled += scope.cancelled_caught
                    with trio.move_on_after(next(windows)):
                        await connection.send_copy_data(frames.status_update(Lsn(0), Lsn(0), 0))

    assert _ids(seen) == written


@pytest.mark.fault("K9")
async def test_status_updates_flow_while_nobody_takes_what_was_read(database: Database) -> None:
    """Back-pressure from Kafka that makes the server drop us after wal_sender_timeout."""
    name = await _prepared(database)
    database.execute(f"ALTER DATABASE {database.name} SET wal_sender_timeout = '4s'")

    async with reading(database.dsn(), name, capacity=1) as rig:
        lease = await rig.lease()
        database.execute("INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 60000) i")
        # Nobody receives: the channel fills, then the budget, then the socket.
        await eventually(
            database,
            "SELECT reply_time > backend_start + interval '10 s' FROM pg_stat_replication WHERE pid = %s",
            lease.walsender_pid,
        )
        assert rig.outbox.statistics().waiting_send or rig.budget.statistics().waiting
        assert len(await rig.messages(b"I", 60000)) == 60000

    assert rig.retries.value == []


async def test_nothing_is_read_before_the_sinks_have_passed_their_guard(database: Database) -> None:
    """Rows that reach a sink which has not yet decided whether it may go on."""
    name = await _prepared(database)
    database.execute("INSERT INTO t VALUES (1)")
    database.execute(f"ALTER DATABASE {database.name} SET wal_sender_timeout = '2s'")

    async with reading(database.dsn(), name) as rig:
        lease = await rig.lease(open_gate=False)
        await eventually(
            database,
            "SELECT reply_time > backend_start + interval '3 s' FROM pg_stat_replication WHERE pid = %s",
            lease.walsender_pid,
        )
        assert rig.outbox.statistics().buffered == 0
        assert rig.reports.value[-1][0] == "starting"
        rig.gate.set(lease.epoch)
        assert _ids(await rig.messages(b"I", 1)) == [1]
        assert await rig.state("running") == ""


async def test_a_rewind_opens_a_new_epoch_that_brings_everything_unconfirmed_again(database: Database) -> None:
    """Rows that were in a dead sink's hands."""
    name = await _prepared(database)

    async with reading(database.dsn(), name) as rig:
        first = await rig.lease()
        database.execute("INSERT INTO t VALUES (1)")
        await rig.messages(b"C", 1)
        end = rig.reader.statistics().committed_lsn
        rig.confirm(end)
        await confirmed(database, name, end)
        database.execute("INSERT INTO t VALUES (2)")
        await rig.messages(b"C", 1)
        rig.rewind.raise_to(rig.epoch.value)
        second = await rig.lease()
        assert _ids(await rig.messages(b"I", 1)) == [2]

    assert (first.epoch, second.epoch) == (1, 2)
    assert second.confirmed_flush > first.confirmed_flush
    assert not any(state == "standby" for state, _ in rig.reports.value)


async def test_the_end_of_our_own_last_stream_is_waited_for_without_standing_by(database: Database) -> None:
    """A rewind that reports a competitor: the server may take a moment to notice that the old stream is closed."""
    name = await _prepared(database)
    started = "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = %s AND pid <> %s AND query LIKE 'START_REPL%%'"

    async with reading(database.dsn(), name) as rig:
        old = (await rig.lease()).walsender_pid
        os.kill(old, signal.SIGSTOP)
        try:
            rig.rewind.raise_to(rig.epoch.value)
            await eventually(database, started, database.name, old)
        finally:
            os.kill(old, signal.SIGCONT)
        await rig.lease()

    assert not any(state == "standby" for state, _ in rig.reports.value)


async def test_a_confirmation_of_an_older_epoch_is_not_passed_on(database: Database) -> None:
    """Confirming by another history's position discards changes."""
    name = await _prepared(database)
    before = database.value("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = %s", [name])

    async with reading(database.dsn(), name) as rig:
        await rig.lease()
        database.execute("INSERT INTO t VALUES (1)")
        await rig.messages(b"C", 1)
        rig.flush.set(type(rig.flush.value)(rig.epoch.value - 1, rig.reader.statistics().received_lsn))
        await eventually(
            database,
            "SELECT write_lsn >= %s::pg_lsn FROM pg_stat_replication WHERE pid = %s",
            str(rig.reader.statistics().received_lsn),
            rig.reader.statistics().walsender_pid,
        )
        after = database.value("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = %s", [name])

    assert after == before


async def test_a_drain_ends_the_channel_and_passes_on_the_last_confirmation(database: Database) -> None:
    """Every stop repeats the last transactions at the next start, or never ends."""
    name = await _prepared(database)
    database.execute(f"ALTER DATABASE {database.name} SET wal_sender_timeout = '2s'")

    async with reading(database.dsn(), name) as rig:
        lease = await rig.lease()
        database.execute("INSERT INTO t SELECT i FROM generate_series(1, 100) i")
        await rig.messages(b"C", 1)
        end = rig.reader.statistics().committed_lsn
        rig.ctx.stopping.set()
        await rig.drained()
        # The stream stays for the last word: status updates go on after the channel has ended.
        query = "SELECT reply_time > %s + interval '1 s' FROM pg_stat_replication WHERE pid = %s"
        await eventually(database, query, database.value("SELECT clock_timestamp()"), lease.walsender_pid)
        rig.confirm(end)
        await confirmed(database, name, end)
        await eventually(database, "SELECT NOT active FROM pg_replication_slots WHERE slot_name = %s", name)

    assert rig.retries.value == []


@pytest.mark.fault("G8")
async def test_a_second_reader_stands_by_and_takes_over(database: Database) -> None:
    """Two instances that fight over the slot, or a standby that never wakes."""
    name = await _prepared(database)

    async with reading(database.dsn(), name) as first:
        await first.lease()
        async with reading(database.dsn(), name) as second:
            detail = await second.state("standby")
            prepared = second.prepared
            # From the second look on it asks for nothing but the slot, and looking again is no end of the actor.
            await second.reports.wait(lambda reports: "is held by process" in reports[-1][1])
            assert second.prepared == prepared
            assert len(second.retries.value) == 1
            first.ctx.stopping.set()
            lease = await second.lease()
            database.execute("INSERT INTO t VALUES (1)")
            assert _ids(await second.messages(b"I", 1)) == [1]

    assert "is active for PID" in detail
    assert lease.slot == name
    assert not any(state == "blocked" for state, _ in second.reports.value)


@pytest.mark.fault("G6")
async def test_a_missing_slot_is_left_to_the_next_start(database: Database) -> None:
    """A dropped slot judged without the checkpoint."""
    name = await _prepared(database)
    await slot.drop_slot(parse_dsn(database.dsn()), name)

    async with reading(database.dsn(), name) as rig:
        (reason, *_) = await rig.retries.wait(bool)
        await rig.retries.wait(lambda retries: len(retries) > 1)
        assert rig.prepared >= 2

    assert f'replication slot "{name}" does not exist' in reason


@pytest.mark.fault("G9")
async def test_a_publication_that_vanished_blocks_and_says_why(
    each_postgres: PostgresServer, make_database: Callable[[PostgresServer], Database]
) -> None:
    """Changes left out without a word: since 18 the server only warns, and streams on without them."""
    database = make_database(each_postgres)
    name = await _prepared(database)

    async with reading(database.dsn(), name, capacity=1000) as rig:
        await rig.lease()
        database.execute("DROP PUBLICATION p")
        database.execute("INSERT INTO t VALUES (1)")
        detail = await rig.state("blocked")

    assert 'publication "p"' in detail
    assert "it did not exist when the next changes were made (create the publication if it is missing" in detail


@pytest.fixture
def own_server() -> PostgresServer:
    """A server that a test may stop."""
    return PostgresServer(18)


@pytest.mark.fault("G1")
async def test_a_server_restart_is_waited_out_and_the_stream_goes_on(own_server: PostgresServer) -> None:
    """A restart that counts as a crash, loses rows, or needs a person."""
    with own_server:
        database = create_database(own_server)
        name = await _prepared(database)
        async with reading(database.dsn(), name) as rig:
            await rig.lease()
            database.execute("INSERT INTO t VALUES (1)")
            await rig.messages(b"I", 1)
            await trio.to_thread.run_sync(lambda: own_server.restart(immediate=True))
            second = await rig.lease()
            assert _ids(await rig.messages(b"I", 1)) == [1]
            database.execute("INSERT INTO t VALUES (2)")
            assert _ids(await rig.messages(b"I", 1)) == [2]

    assert second.epoch >= 2
    assert rig.retries.value


@pytest.mark.fault("G2")
async def test_a_server_in_fast_shutdown_is_let_go_although_not_all_is_confirmed(own_server: PostgresServer) -> None:
    """PostgreSQL that cannot stop while Kafka is down: its walsender waits for our confirmation."""
    with own_server:
        database = create_database(own_server)
        name = await _prepared(database)
        async with reading(database.dsn(), name) as rig:
            await rig.lease()
            database.execute("INSERT INTO t VALUES (1)")
            await rig.messages(b"C", 1)
            end = rig.reader.statistics().committed_lsn
            rig.confirm(end)
            await confirmed(database, name, end)
            database.execute("INSERT INTO t VALUES (2)")
            await rig.messages(b"C", 1)
            # The grace is longer than this test may take: a walsender that stays fails it.
            await trio.to_thread.run_sync(lambda: own_server.stop(grace_s=120.0))
            assert await rig.state("waiting")

    assert not own_server.running


@pytest.mark.fault("N3")
async def test_a_frozen_server_is_noticed_by_its_silence(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A walsender that hangs with its connection open: TCP goes on acknowledging."""
    monkeypatch.setattr(stream, "SHORTEST_SILENCE_S", 1.0)
    name = await _prepared(database)
    database.execute(f"ALTER DATABASE {database.name} SET wal_sender_timeout = '1s'")

    async with reading(database.dsn(), name) as rig:
        lease = await rig.lease()
        database.execute("INSERT INTO t VALUES (1)")
        await rig.messages(b"I", 1)
        os.kill(lease.walsender_pid, signal.SIGSTOP)
        try:
            (reason, *_) = await rig.retries.wait(bool)
        finally:
            os.kill(lease.walsender_pid, signal.SIGCONT)
        await rig.lease()

    assert "nothing came from the server" in reason


async def test_an_idle_server_is_not_taken_for_a_frozen_one(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that is cut whenever nobody writes for a while."""
    monkeypatch.setattr(stream, "SHORTEST_SILENCE_S", 1.0)
    name = await _prepared(database)
    database.execute(f"ALTER DATABASE {database.name} SET wal_sender_timeout = '1s'")

    async with reading(database.dsn(), name) as rig:
        await rig.lease()
        keepalives = 0
        # Each is the answer to a question of ours.
        while keepalives < 5:
            keepalives += sum(m[:1] == b"k" for m in (await rig.chunk()).messages)

    assert rig.retries.value == []


async def test_names_with_quotes_reach_the_server_as_they_are(database: Database) -> None:
    """A publication name that ends its own quotes."""
    name, publication = _name(), """p"', two_phase 'on \\ ü"""
    quoted = publication.replace('"', '""')
    database.execute(
        f'CREATE TABLE "We"" ird" (id int PRIMARY KEY); CREATE PUBLICATION "{quoted}" FOR TABLE "We"" ird"'
    )
    await slot.create_slot(parse_dsn(database.dsn()), name)

    async with reading(database.dsn(), name, publication) as rig:
        await rig.lease()
        database.execute('INSERT INTO "We"" ird" VALUES (1)')
        await rig.messages(b"I", 1)

    assert (rig.relations[0].table, rig.relations[0].key) == ('We" ird', (0,))


@pytest.mark.fault("G18")
async def test_our_session_settings_win_over_those_of_the_role(database: Database) -> None:
    """Dates, intervals, floats and bytea in a form that the decoders do not read, or a statement timeout."""
    name = await _prepared(
        database, "CREATE TABLE v (id int PRIMARY KEY, d date, i interval, z timestamptz, f float8, b bytea)"
    )
    database.execute("ALTER PUBLICATION p ADD TABLE v")
    for setting in (
        "datestyle = 'German'",
        "intervalstyle = 'iso_8601'",
        "timezone = 'Asia/Tokyo'",
        "extra_float_digits = -10",
        "bytea_output = 'escape'",
        "statement_timeout = '1ms'",
    ):
        database.execute(f"ALTER DATABASE {database.name} SET {setting}")

    async with reading(database.dsn(), name) as rig:
        await rig.lease()
        with database.connect() as connection:
            connection.execute("SET statement_timeout = 0")
            connection.execute(
                "INSERT INTO v VALUES (1, '2024-02-03', '1 day 2 h', '2024-02-03 04:05:06+00', 0.1, '\\x01ff')"
            )
        (row,) = await rig.messages(b"I", 1)

    for text in (b"2024-02-03", b"1 day 02:00:00", b"2024-02-03 04:05:06+00", b"\\x01ff"):
        assert text in row
    assert b"\x00\x00\x00\x030.1" in row


@pytest.mark.fault("G19")
async def test_logical_messages_outside_of_transactions_are_streamed(database: Database) -> None:
    """Messages that the stream was not asked for."""
    name = await _prepared(database)

    async with reading(database.dsn(), name) as rig:
        await rig.lease()
        database.execute("SELECT pg_logical_emit_message(false, 'note', 'hello')")
        # A message alone is written out with the next flush of the WAL.
        database.execute("INSERT INTO t VALUES (1)")
        (message,) = await rig.messages(b"M", 1)

    assert message.endswith(b"hello")


async def test_making_a_slot_twice_says_that_it_exists(database: Database) -> None:
    """Two first starts at once."""
    name = await _prepared(database)

    with pytest.raises(faults.SlotExists, match=name):
        await slot.create_slot(parse_dsn(database.dsn()), name)


async def test_a_failover_slot_is_made_where_the_server_has_them(
    postgres17: PostgresServer, make_database: Callable[[PostgresServer], Database]
) -> None:
    """A slot that a standby does not get."""
    database, name = make_database(postgres17), _name()

    point = await slot.create_slot(parse_dsn(database.dsn()), name, failover=True)

    assert database.rows(
        "SELECT failover, confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s", [name]
    ) == [(True, str(point))]


async def test_a_reader_is_told_to_stop_before_it_has_a_stream(database: Database) -> None:
    """A stop that waits for a server."""
    name = await _prepared(database)

    async with reading(database.dsn(), name) as rig:
        await rig.lease()
        async with reading(database.dsn(), name) as second:
            await second.state("standby")
            second.ctx.stopping.set()
            await second.drained()


async def test_only_the_reading_task_says_what_the_reader_waits_for(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that hangs is never found out, because its status task waits for something all the time."""
    name = await _prepared(database)
    hanging, go_on = trio.Event(), trio.Event()

    async def hang(point: str) -> None:
        if point == "reader.loop":
            hanging.set()
            await go_on.wait()

    monkeypatch.setattr(stream, "failpoint_async", hang)
    async with reading(database.dsn(), name) as rig:
        await rig.lease()
        await hanging.wait()
        await trio.testing.wait_all_tasks_blocked()
        while_hanging = rig.ctx.waiting_for
        go_on.set()
        database.execute("INSERT INTO t VALUES (1)")
        await rig.messages(b"I", 1)

    assert while_hanging is None


@pytest.mark.fault("G4")
async def test_a_promoted_server_shows_where_its_old_timeline_ended(own_server: PostgresServer) -> None:
    """A failover that lost the end of the old primary's WAL goes unnoticed without the history."""
    with own_server:
        database = create_database(own_server)
        name = await _prepared(database)
        database.execute("INSERT INTO t VALUES (1)")
        before = Lsn.parse(database.value("SELECT pg_current_wal_insert_lsn()::text"))
        await trio.to_thread.run_sync(own_server.stop)
        signal_file = own_server.data / "standby.signal"
        signal_file.touch()
        shutil.chown(signal_file, own_server.data.owner(), own_server.data.group())
        await trio.to_thread.run_sync(own_server.start)
        async with reading(database.dsn(), name) as rig:
            standby = await rig.state("waiting")
            assert database.value("SELECT pg_promote()")
            lease = await rig.lease()
            assert _ids(await rig.messages(b"I", 1)) == [1]

    assert "is a standby" in standby
    assert lease.timeline == 2
    (switch,) = lease.history
    assert switch.timeline == 1
    assert switch.end >= before
