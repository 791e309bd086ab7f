"""Transactions in two phases: PREPARE TRANSACTION, and COMMIT or ROLLBACK PREPARED at once or some transactions later.

Whatever a lost connection leaves prepared is ended as it was meant to, once the server is back. How it ended is then
decided by its token, as for any transaction whose COMMIT got no answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from tests.ledger.writer import Ending

if TYPE_CHECKING:
    from psycopg import Connection

    from tests.ledger.outcomes import Ledger, Transaction
    from tests.ledger.writer import Writer

_LATER = 3
"""Transactions between the two phases, at most."""


@dataclass
class _Pending:
    transaction: Transaction
    commit: bool
    due: int
    """It is ended when the writer has so many more transactions behind it."""
    doubtful: bool = False
    """The answer to one of its commands was lost."""

    @property
    def name(self) -> str:
        return f"ledger-{self.transaction.token}"


class Prepared:
    """The prepared transactions of one writer."""

    def __init__(self, ledger: Ledger, writer: Writer) -> None:
        """Empty."""
        self._ledger, self._writer = ledger, writer
        self._pending: list[_Pending] = []

    @property
    def waiting(self) -> bool:
        """Whether some are not ended yet."""
        return bool(self._pending)

    def run(self, connection: Connection, transaction: Transaction, ending: Ending) -> None:
        """The first phase, and the second unless it is to come later. Raises OperationalError when the server goes."""
        later = transaction.token % _LATER + 1 if ending is Ending.LATER else 0
        pending = _Pending(transaction, ending is not Ending.PREPARED_ROLLBACK, later)
        self._pending.append(pending)
        self._command(connection, pending, f"prepare transaction '{pending.name}'")
        if not later:
            self._end(connection, pending)

    def settle_due(self, connection: Connection) -> None:
        """One more transaction has passed: end those whose time has come."""
        for pending in list(self._pending):
            pending.due -= 1
            if pending.due <= 0:
                self._end(connection, pending)

    def settle_all(self, connection: Connection) -> None:
        """End all."""
        for pending in list(self._pending):
            self._end(connection, pending)

    def recover(self, connection: Connection) -> None:
        """On a new connection: end those in doubt, if they are still there."""
        if not any(pending.doubtful for pending in self._pending):
            return
        found = {row[0] for row in connection.execute("select gid from pg_prepared_xacts").fetchall()}
        for pending in [pending for pending in self._pending if pending.doubtful]:
            if pending.name in found:
                self._end(connection, pending)
            else:
                self._pending.remove(pending)

    def _end(self, connection: Connection, pending: _Pending) -> None:
        self._command(connection, pending, f"{'commit' if pending.commit else 'rollback'} prepared '{pending.name}'")
        self._pending.remove(pending)
        if pending.doubtful:
            return
        if pending.commit:
            self._writer.settle(pending.transaction)
            self._ledger.committed(pending.transaction)
        else:
            self._ledger.undone(pending.transaction)

    def _command(self, connection: Connection, pending: _Pending, command: str) -> None:
        try:
            connection.execute(command)
        except psycopg.OperationalError:
            if not pending.doubtful:
                pending.doubtful = True
                self._ledger.unknown(pending.transaction)
                self._writer.forget()
            raise
