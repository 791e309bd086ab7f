"""Copies of a PostgreSQL server: an older state put back in its place, and standbys that follow it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from deltaforge.embedded.postgres import PostgresServer
from tests.support.orders import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STANDBY = "standby"
"""The standby's name towards its primary, and of its physical slot there."""
_NOT_COPIED = ("postmaster.pid", "postmaster.opts", "pg_replslot", "pg_wal", "pg_stat_tmp", "pgsql_tmp")
_CATCH_UP_S = 60.0


def keep(server: PostgresServer) -> Path:
    """Copy the data of a server that is stopped, as a cold backup does. Returns where it lies."""
    assert not server.running
    kept = Path(tempfile.mkdtemp(prefix="kept-", dir=server.directory)) / "data"
    _copy(server.data, kept)
    return kept


def put_back(server: PostgresServer, kept: Path) -> None:
    """Let a stopped server start from an older state. What it wrote since is gone."""
    assert not server.running
    shutil.rmtree(server.data)
    _copy(kept, server.data)


def recover(server: PostgresServer) -> None:
    """Start a stopped server as restored from an archive: it replays what it has and begins a new timeline there."""
    assert not server.running
    _place(server.data / "recovery.signal", b"")
    _configure(server.data, {"restore_command": "false"})
    server.start()
    with psycopg.connect(server.dsn(), autocommit=True) as connection:

        def reached() -> bool:
            return connection.execute("select pg_is_in_recovery()").fetchone() == (False,)

        wait_until(reached, "the end of recovery", lambda: None, _CATCH_UP_S)


def add_standby(primary: PostgresServer, options: Mapping[str, str]) -> PostgresServer:
    """A hot standby of a running server, made from a copy taken meanwhile, started and streaming.

    It copies failover slots. The caller closes it; its directory is below the primary's and goes with it.

    Args: options: settings instead of the primary's.
    """
    directory = Path(tempfile.mkdtemp(prefix="standby-", dir=primary.directory))
    shutil.chown(directory, primary.data.owner(), primary.data.group())
    data = directory / "data"
    with psycopg.connect(primary.dsn(), autocommit=True) as connection:
        connection.execute("select pg_create_physical_replication_slot(%s, true)", [STANDBY])
        connection.execute("select pg_backup_start('standby', true)")
        shutil.copytree(primary.data, data, ignore=shutil.ignore_patterns(*_NOT_COPIED), copy_function=_copy_if_there)
        (label,) = connection.execute("select labelfile from pg_backup_stop(false)").fetchone() or ("",)
        for folder in ("pg_replslot", "pg_wal"):
            (data / folder).mkdir()
    (data / "backup_label").write_text(label)
    (data / "standby.signal").touch()
    about = f"host={primary.host} port={primary.port} user=postgres dbname=postgres application_name={STANDBY}"
    follow = {"primary_conninfo": about, "primary_slot_name": STANDBY, "hot_standby_feedback": "on"}
    follow["sync_replication_slots"] = "on"
    _configure(data, {**follow, **options})
    subprocess.run(["chown", "-R", f"{primary.data.owner()}:{primary.data.group()}", str(directory)], check=True)
    data.chmod(0o700)
    standby = PostgresServer(primary.version, directory=directory, bin_dir=primary.bin_dir)
    standby.start()
    catch_up(primary, standby)
    return standby


def catch_up(primary: PostgresServer, standby: PostgresServer) -> None:
    """Block until the standby has replayed all that the primary has written so far."""
    with psycopg.connect(primary.dsn(), autocommit=True) as at, psycopg.connect(standby.dsn(), autocommit=True) as to:
        (end,) = at.execute("select pg_current_wal_lsn()").fetchone() or ("",)

        def reached() -> bool:
            return to.execute("select pg_last_wal_replay_lsn() >= %s::pg_lsn", [end]).fetchone() == (True,)

        wait_until(reached, f"the standby has replayed {end}", lambda: None, _CATCH_UP_S)


def synchronise(primary: PostgresServer, standby: PostgresServer, slots: set[str], work: Callable[[], None]) -> None:
    """Block until the standby has copies of these failover slots; from then on they stay as they are.

    Args: work: something that every one of the slots has to decode and to confirm; done again and again.
    """
    query = "select slot_name from pg_replication_slots where synced and not temporary"
    worker = "select count(*) from pg_stat_activity where backend_type = 'slotsync worker'"
    with psycopg.connect(primary.dsn(), autocommit=True) as at, psycopg.connect(standby.dsn(), autocommit=True) as to:

        def reached() -> bool:
            # A copy is there to stay once the slot has passed the moment at which the standby could begin.
            at.execute("select pg_log_standby_snapshot()")
            work()
            return slots <= {row[0] for row in to.execute(query).fetchall()}

        def alone() -> bool:
            return to.execute(worker).fetchone() == (0,)

        wait_until(reached, f"{slots} are on the standby", lambda: None, _CATCH_UP_S)
        to.execute("alter system set sync_replication_slots = off")
        standby.reload()
        wait_until(alone, "no worker copies slots", lambda: None, _CATCH_UP_S)


def promote(standby: PostgresServer) -> None:
    """Make a primary of it."""
    with psycopg.connect(standby.dsn(), autocommit=True) as connection:
        assert connection.execute("select pg_promote()").fetchone() == (True,)


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(target)], check=True)


def _copy_if_there(source: str, target: str) -> None:
    # A file that a running server removes is one that its WAL tells about.
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(source, target)
        os.chmod(target, 0o600)


def _configure(data: Path, settings: Mapping[str, str]) -> None:
    """Later lines win."""
    lines = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
    with (data / "postgresql.auto.conf").open("a") as file:
        file.write(lines)


def _place(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    shutil.chown(path, path.parent.owner(), path.parent.group())
