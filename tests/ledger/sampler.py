"""Asks PostgreSQL every 50 ms what the slot has confirmed, and how much WAL it holds back."""

from __future__ import annotations

import time
from array import array
from typing import TYPE_CHECKING

import psycopg

from tests.support.beside import Beside

if TYPE_CHECKING:
    from collections.abc import Iterator

PERIOD_S = 0.05
_QUERY = """select (confirmed_flush_lsn - '0/0')::int8, (pg_current_wal_lsn() - restart_lsn)::int8
  from pg_replication_slots where slot_name = %s and confirmed_flush_lsn is not null"""


class Sampler(Beside):
    """A thread of its own; a server that is away is waited for."""

    def __init__(self, dsn: str, slot: str) -> None:
        """Nothing is asked before the `with` block."""
        super().__init__()
        self._dsn, self._slot = dsn, slot
        self._times, self._confirmed = array("q"), array("q")
        self.most_retained = 0
        """Bytes of WAL that the slot held back, at most."""

    def samples(self) -> Iterator[tuple[int, int]]:
        """Milliseconds since 1970 after each answer, and what was confirmed then."""
        return zip(self._times, self._confirmed, strict=True)

    def work(self) -> None:
        """Ask whenever the server is there."""
        while not self.stop.is_set():
            try:
                with psycopg.connect(self._dsn, autocommit=True) as connection:
                    while not self.stop.wait(PERIOD_S):
                        self._ask(connection)
            except psycopg.OperationalError:
                self.stop.wait(PERIOD_S)

    def _ask(self, connection: psycopg.Connection) -> None:
        row = connection.execute(_QUERY, [self._slot]).fetchone()
        if row is not None:
            # After the answer: what was confirmed by then had to be durable by then.
            self._times.append(int(time.time() * 1000))
            self._confirmed.append(row[0])
            self.most_retained = max(self.most_retained, row[1])
