"""A replication connection: libpq's COPY BOTH on Trio. The only place that waits on libpq's socket.

Rule 1: Trio waits on a duplicate of libpq's descriptor. libpq closes its own whenever it finds the connection broken,
        also in the middle of another task's wait; the duplicate is ours until `close`.
Rule 2: libpq and TLS may hold data while the socket is silent: ask libpq first, wait only when it has nothing.
Rule 3: sending may read (libpq empties a full channel that way), so a sender wakes a waiting reader.
Rule 4: reading and sending may happen in two tasks, each of them in one only. Cancelling either loses nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

import psycopg
import trio
from psycopg import pq

from deltaforge.errors import DeltaforgeError, ProtocolViolation, TransientError
from deltaforge.failpoints import failpoint_async
from deltaforge.source import faults, session

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from psycopg.pq.abc import PGconn, PGresult

    from deltaforge.config.dsn import Dsn

Rows = list[tuple[bytes | None, ...]]
_T = TypeVar("_T")

CHUNK_BYTES = 256 * 1024
CHUNK_S = 0.005
_CLOCK_EVERY = 64
"""Messages between two looks at the clock."""

_OK = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COPY_BOTH)
_RETRY_FLUSH_S = 0.05
_PUBLICATION_SKIPPED = b"55000"
"""SQLSTATE of the warning that PostgreSQL 18 leaves out a missing publication's changes."""


class StreamEnded(TransientError):
    """The server ended the stream."""

    hint = "deltaforge opens a new one"


async def connect(dsn: Dsn, *, application: str = "deltaforge") -> ReplicationConnection:
    """Open a logical replication session, trying every address in turn.

    Raises:
      TransientError: nobody answers, or the server is starting or stopping.
      OperatorError: wrong credentials, database, TLS settings or rights.
    """
    addresses = await session.resolve(dsn)
    seconds = session.deadline(dsn)
    failure: DeltaforgeError | None = None
    for keywords in session.attempts_keywords(dsn, addresses, application):
        with trio.move_on_after(seconds) as scope:
            try:
                return await _attempt(keywords, str(dsn))
            except DeltaforgeError as error:
                failure = error
        if scope.cancelled_caught:
            failure = TransientError(
                f"cannot connect to {dsn}: no answer within {seconds:g} s", hint="is it reachable?"
            )
    assert failure is not None
    raise failure


async def _attempt(keywords: dict[str, str], target: str) -> ReplicationConnection:
    try:
        conn: PGconn = pq.PGconn.connect_start(session.conninfo({**keywords, "replication": "database"}))
    except psycopg.Error:
        # libpq's text may quote what it was given.
        raise TransientError(f"cannot connect to {target}: libpq refused the connection's settings") from None
    try:
        while (status := _poll(conn)) != pq.PollingStatus.OK:
            if status == pq.PollingStatus.READING:
                await trio.lowlevel.wait_readable(conn.socket)
            elif status == pq.PollingStatus.WRITING:
                await trio.lowlevel.wait_writable(conn.socket)
            else:
                raise session.no_descriptor(target) or faults.from_connect_text(conn.get_error_message(), target)
        conn.nonblocking = 1
        connection = ReplicationConnection(conn, target)
    except OSError as error:
        conn.finish()
        raise session.no_descriptor(target) or TransientError(f"cannot connect to {target}: {error}") from None
    except BaseException:
        conn.finish()
        raise
    try:
        if conn.server_version >= session.TRANSACTION_TIMEOUT_SINCE:
            await connection.simple_query(session.NO_TRANSACTION_TIMEOUT)
        if conn.parameter_status(b"server_encoding") == b"SQL_ASCII":
            await connection.simple_query(session.AS_IT_IS)
    except BaseException:
        connection.close()
        raise
    return connection


def _poll(conn: PGconn) -> int:
    try:
        return conn.connect_poll()
    except psycopg.Error:
        return pq.PollingStatus.FAILED


class ReplicationConnection:
    """One walsender session. Close it, or use it with `with`."""

    def __init__(self, conn: PGconn, target: str) -> None:
        """Take over a connected, non-blocking libpq connection; `target` names it in errors."""
        self._conn = conn
        self._target = target
        self._fd = os.dup(conn.socket)
        self._waiting: trio.CancelScope | None = None
        self._ended = False
        self._warned: DeltaforgeError | None = None
        conn.notice_handler = self._notice

    @property
    def backend_pid(self) -> int:
        """Process id of the walsender."""
        return self._conn.backend_pid

    @property
    def server_version(self) -> int:
        """As libpq counts: 180001 for 18.1."""
        return self._conn.server_version

    @property
    def tls(self) -> bool:
        """Whether the session is encrypted."""
        return bool(self._conn.ssl_in_use)

    async def simple_query(self, sql: str, *, doing: str = "") -> Rows:
        """Run one replication command or SQL statement and return its rows as the server's text.

        Raises:
          DeltaforgeError: as `faults.from_sqlstate` judges; TransientError when the connection breaks.
        """
        result = await self._run(sql, doing)
        columns = range(result.nfields)
        return [tuple(result.get_value(row, column) for column in columns) for row in range(result.ntuples)]

    async def start_copy(self, sql: str, *, doing: str = "") -> None:
        """Run a command that turns the session into COPY BOTH. Errors as `simple_query`."""
        result = await self._run(sql, doing)
        if result.status != pq.ExecStatus.COPY_BOTH:
            raise ProtocolViolation(f"{doing or 'START_REPLICATION'}: the server did not start streaming")

    async def _run(self, sql: str, doing: str) -> PGresult:
        doing = doing or sql.split(None, 1)[0]
        self._call(lambda: self._conn.send_query(sql.encode()), doing)
        await self._flush(doing)
        await failpoint_async(f"walsender.asked.{sql.split(None, 1)[0].lower()}")
        last = failed = None
        # The results of a command are read to their end also after an error: else the session takes no other.
        while last is None or last.status != pq.ExecStatus.COPY_BOTH:
            while self._call(self._conn.is_busy, doing):
                await self._wait_readable()
                self._call(self._conn.consume_input, doing)
            result = self._call(self._conn.get_result, doing)
            if result is None:
                break
            last = result
            if result.status not in _OK:
                failed = failed or result
        if failed is not None:
            raise self._server_error(failed, doing)
        if last is None:
            raise self._broken(doing)
        return last

    async def read_available(self, max_bytes: int = CHUNK_BYTES, max_s: float = CHUNK_S) -> list[bytes]:
        """CopyData payloads: waits for the first, then takes what is there, up to a size and a working time.

        Raises:
          StreamEnded: the server ended the stream, or the connection broke.
          DeltaforgeError: the server ended it with an error.
        """
        messages: list[bytes] = []
        until = trio.current_time() + max_s
        size = 0
        take, append = self._conn.get_copy_data, messages.append
        asked = False
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._ended:
            try:
                length, data = take(1)
            except psycopg.Error:
                raise self._broken("streaming") from None
            if length > 0:
                append(bytes(data))
                size += length
                if size >= max_bytes or (not len(messages) % _CLOCK_EVERY and trio.current_time() >= until):
                    break
                asked = False
            elif length < 0:
                self._ended = True
            elif messages and asked:
                break
            else:
                if not messages:
                    await self._wait_readable()
                    until = trio.current_time() + max_s
                self._call(self._conn.consume_input, "streaming")
                asked = True
        if self._warned is not None:
            # Also what came before the warning: the next stream brings it again.
            raise self._warned
        if not messages:
            raise self._end()
        return messages

    async def send_copy_data(self, payload: bytes) -> None:
        """Send one CopyData payload and wait until the socket took it. Safe beside `read_available`.

        Raises:
          TransientError: the connection broke.
        """
        self._call(lambda: self._conn.put_copy_data(payload), "sending status")
        await self._flush("sending status")

    async def end_copy(self) -> None:
        """Send CopyDone: no more status updates follow."""
        self._call(self._conn.put_copy_end, "ending the stream")
        await self._flush("ending the stream")

    def close(self) -> None:
        """Close at once, without a checkpoint: descriptor numbers are used again."""
        if self._fd >= 0:
            trio.lowlevel.notify_closing(self._fd)
            self._conn.finish()
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _wait_readable(self) -> None:
        with trio.CancelScope() as self._waiting:
            await trio.lowlevel.wait_readable(self._fd)
        self._waiting = None

    async def _flush(self, doing: str) -> None:
        while self._call(self._conn.flush, doing):
            self._wake_reader()
            # The server may be blocked on us: look again soon, flush reads what it sent.
            with trio.move_on_after(_RETRY_FLUSH_S):
                await trio.lowlevel.wait_writable(self._fd)
        await trio.lowlevel.checkpoint()

    def _wake_reader(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel(reason="the sender read for the reader")

    def _call(self, function: Callable[[], _T], doing: str) -> _T:
        if self._fd < 0:
            raise trio.ClosedResourceError("the replication connection is closed")
        try:
            return function()
        except psycopg.Error:
            raise self._broken(doing) from None

    def _broken(self, doing: str) -> TransientError:
        self._ended = True
        self._wake_reader()
        text = faults.clean(self._conn.get_error_message())
        return StreamEnded(f"{doing}: the connection to {self._target} broke: {text}")

    def _end(self) -> DeltaforgeError:
        """Why the stream ended, once the server said so."""
        try:
            result = self._conn.get_result()
        except psycopg.Error:
            return self._broken("streaming")
        if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
            return self._server_error(result, "")
        return StreamEnded(f"the server at {self._target} ended the stream")

    def _server_error(self, result: PGresult, doing: str) -> DeltaforgeError:
        state = result.error_field(pq.DiagnosticField.SQLSTATE)
        text = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)
        if state is None:
            return self._broken(doing or "streaming")
        words = (text or b"").decode(errors="replace")
        if not doing:
            return faults.from_stream_state(state.decode(), words)
        return faults.from_sqlstate(state.decode(), words, doing)

    def _notice(self, result: PGresult) -> None:
        if result.error_field(pq.DiagnosticField.SQLSTATE) == _PUBLICATION_SKIPPED:
            self._warned = self._server_error(result, "")
