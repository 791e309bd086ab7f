"""What stands in the file system goes wrong under a running pipeline: its disk, its file, its working directory."""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from deltaforge.model import Lsn
from tests.fault.sizes import FULL, half
from tests.ledger.workload import make_tables
from tests.support.faulty_libc import FaultyLibc
from tests.support.orders import wait_until
from tests.support.pipelines import local, write
from tests.support.process import REPOSITORY, Deltaforge
from tests.support.small_disks import SmallDisk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.databases import Database

pytestmark = [pytest.mark.slow, pytest.mark.fault("C1")]

MIB, PAGE = 2**20, 4096
_INSERT = "insert into orders (id, customer_id, total, note, created_at) values (%s, 1, 1, repeat('x', %s), now())"
CONFIRMED = "select confirmed_flush_lsn::text from pg_replication_slots where database = current_database()"


class Written:
    """A pipeline into one file on a small disk, with a C library that may fail, in a directory that may go away."""

    def __init__(self, database: Database, directory: Path, disk: SmallDisk, libc: FaultyLibc) -> None:
        self.database, self.disk, self.out = database, disk, disk.path / "out.jsonl"
        self.home = directory / "home"
        self.home.mkdir()
        document = local(f"file-{database.name[-8:]}", "unused")
        document["spec"]["sinks"] = [{"type": "file", "config": {"id": "out", "path": str(self.out)}}]
        self.name = document["metadata"]["name"]
        servers = {"POSTGRES_DSN": database.dsn(), "KAFKA_BROKERS": "none", **libc.environment}
        self.product = Deltaforge(write(directory / "pipeline.yaml", document), servers, name="file-trouble")
        self.product.run_from(self.home, {"PYTHONPATH": str(REPOSITORY)})
        self.orders: list[int] = []

    def insert(self) -> None:
        """One more order, which fills more than what a page may still have room for."""
        self.orders.append(len(self.orders) + 1)
        self.database.execute(_INSERT, [self.orders[-1], 2 * PAGE])

    def lines(self) -> Counter[int]:
        """Orders in the file."""
        text = self.out.read_text() if self.out.exists() else ""
        return Counter(int(line.partition('"key":{"id":')[2].partition("}")[0]) for line in text.splitlines())

    def wait_for_lines(self) -> None:
        """Block until every order is there."""
        self.wait(lambda: not Counter(self.orders) - self.lines(), "every order is in the file")

    def wait_blocked(self, *words: str) -> None:
        """Block until the pipeline says that a person has to do something, in these words."""

        def told() -> bool:
            status, body = self.product.ask(f"/pipelines/{self.name}")
            view = json.loads(body) if status == 200 else {"state": ""}
            return view["state"] == "blocked" and all(word in view["detail"] for word in words)

        self.wait(told, f"blocked: {words}")

    def wait(self, reached: Callable[[], bool], what: str) -> None:
        """Block until then, as long as the process lives."""

        def alive() -> None:
            assert self.product.running, self.product.tail()

        wait_until(reached, what, alive)

    def confirmed(self) -> Lsn:
        """What PostgreSQL may forget."""
        return Lsn.parse(self.database.value(CONFIRMED))

    def harm(self, do: Callable[[], None], undo: Callable[[], None], *words: str) -> None:
        """Something goes wrong, an order is written, and it is put right again."""
        do()
        before = Lsn.parse(self.database.value("select pg_current_wal_lsn()::text"))
        self.insert()
        self.wait_blocked(str(self.out), *words)
        assert self.confirmed() <= before
        undo()
        self.wait_for_lines()


def test_a_file_that_cannot_be_written_holds_its_rows_back_until_it_can(database: Database, tmp_path: Path) -> None:
    """Guards rows that were given to the system and never reached the disk, and those written twice on the way back."""
    make_tables(database.dsn())
    with ExitStack() as stack:
        disk = stack.enter_context(SmallDisk(MIB))
        libc = stack.enter_context(FaultyLibc())
        written = Written(database, tmp_path, disk, libc)
        product = stack.enter_context(written.product)
        # GIVEN a pipeline at work, whose working directory is gone
        product.wait_ready()
        written.home.rmdir()
        written.insert()
        written.wait_for_lines()
        # WHEN the disk is full, breaks, or turns read-only under the open file THEN that is told, and waited out
        harms: list[tuple[Callable[[], None], Callable[[], None], int]] = [
            (lambda: libc.fail_writes(errno.EIO), lambda: libc.fail_writes(0), errno.EIO),
            (disk.fill, disk.empty, errno.ENOSPC),
            (lambda: libc.fail_fsync(errno.EROFS), lambda: libc.fail_fsync(0), errno.EROFS),
            (lambda: libc.fail_fsync(errno.EIO), lambda: libc.fail_fsync(0), errno.EIO),
            (lambda: libc.fail_writes(errno.EROFS), lambda: libc.fail_writes(0), errno.EROFS),
        ]
        for do, undo, error in half(harms):
            written.harm(do, undo, os.strerror(error))
        # THEN every row is there once
        assert written.lines() == Counter(written.orders)
        if FULL:
            _deleted_and_read_only(written)
        assert product.term() == 0, product.tail()


def _deleted_and_read_only(written: Written) -> None:
    """What a file that is gone, and a disk that was read-only before the start, come to."""
    product = written.product
    # WHEN the file is deleted THEN a new one is begun with what was not confirmed
    before = written.lines()
    written.out.unlink()
    written.insert()
    written.wait(lambda: written.lines()[written.orders[-1]] == 1, "a new file is begun")
    assert not before & written.lines()
    assert product.term() == 0, product.tail()
    # AND WHEN a process finds a disk on which it may not write THEN it waits in the same way
    written.disk.read_only(True)
    written.insert()
    written.home.mkdir()
    product.start()
    written.wait_blocked(str(written.out), os.strerror(errno.EROFS), "remount it")
    written.disk.read_only(False)
    written.wait(lambda: written.lines()[written.orders[-1]] == 1, "it goes on")
