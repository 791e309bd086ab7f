"""The control session: one ordinary connection beside the stream, for the catalog and for the slot's state.

Rule 1: one query at a time, whoever asks; the connection is opened when first needed and again after any failure.
Rule 2: a query that is cancelled or fails costs the connection, not five seconds of asking the server to stop.
Rule 3: psycopg's asyncio half runs on a loop of this session's own; nothing of it leaves this file.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
import psycopg.waiting
import trio
import trio_asyncio  # type: ignore[import-untyped]
from psycopg.adapt import Loader

from deltaforge.errors import DeltaforgeError, OperatorError, Refused, TransientError, UsageError
from deltaforge.model import Lsn, PgType, SlotState
from deltaforge.source import catalog, faults, publication, relations, session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType
    from typing import Self

    from psycopg.abc import Buffer

    from deltaforge.config.dsn import Dsn

# trio-asyncio replaces this function; psycopg, imported earlier, still holds the one that knows no Trio.
psycopg.waiting.get_running_loop = asyncio.get_running_loop  # type: ignore[attr-defined]

QUERY_S = 30.0
"""A catalog query without answer for so long means that the server hangs."""

Row = tuple[Any, ...]

_TEXTS = (0, "text", "varchar", "bpchar", "name", '"char"')
"""Types whose values psycopg reads as text; 0 = all that it does not know."""


class Identity(msgspec.Struct, frozen=True):
    """Which server this is."""

    system_id: str
    timeline: int
    database: str
    wal_level: str
    version: int
    """As libpq counts: 180001 for 18.1."""
    user: str
    wal_sender_timeout_ms: int
    """0 = the server never drops a silent client."""


class _Connection(psycopg.AsyncConnection[Row]):
    """Gives up at once when a query is cancelled; see rule 2."""

    async def _try_cancel(self, **_: float) -> None:
        self.pgconn.finish()
        raise psycopg.errors.QueryCanceled("the connection was closed instead")


class ControlSession:
    """Queries for everybody in a pipeline, one after another. Use inside `async with`.

    Every query raises TransientError when the server is away (ServerShutdown when it says that it is going down) and
    OperatorError when credentials, rights or settings are wrong. Cancellation: the query's effect is unknown, and none
    of them has any.
    """

    def __init__(self, dsn: Dsn, slot: str, publication: str) -> None:
        """Nothing is opened yet. `publication` is the name to check, `slot` the one to look at."""
        self._dsn, self._slot, self._publication = dsn, slot, publication
        self._lock = trio.Lock()
        self._connection: _Connection | None = None
        self._opened: AbstractAsyncContextManager[trio_asyncio.TrioEventLoop] | None = None
        self._loop: trio_asyncio.TrioEventLoop | None = None

    async def __aenter__(self) -> Self:
        self._opened = trio_asyncio.open_loop()
        self._loop = await self._opened.__aenter__()
        return self

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Awaitable[bool | None]:
        assert self._opened is not None
        self._drop()
        self._loop = None
        return self._opened.__aexit__(kind, error, trace)

    async def slot_state(self) -> SlotState:
        """Slot and server as of one moment."""
        (row,) = await self._query(catalog.SLOT_STATE, {"slot": self._slot}, "reading the slot's state")
        exists, pid, confirmed, restart, status, wal, system_id, database, retained, reason = row
        positions = (Lsn.parse(confirmed), Lsn.parse(restart))
        return SlotState(exists, pid, *positions, status, Lsn.parse(wal), system_id, database, retained, reason)

    async def identify(self) -> Identity:
        """Which server and database this is. TransientError while it is a standby."""
        (row,) = await self._query(catalog.IDENTITY, {}, "identifying the server")
        system_id, timeline, database, wal_level, version, recovering, user, timeout = row
        if recovering:
            raise TransientError(
                f"{self._dsn} is a standby (in recovery)",
                hint="correct the DSN, or give several hosts and target_session_attrs=read-write",
            )
        return Identity(system_id, timeline, database, wal_level, version, user, timeout)

    async def check_server(self) -> Identity:
        """Check wal_level, the role's rights and the kind of an existing slot.

        Raises:
          OperatorError: naming the statement that helps.
          Refused: the slot belongs to another database.
        """
        identity = await self.identify()
        if identity.wal_level != "logical":
            raise OperatorError(
                f"wal_level is {identity.wal_level}, logical replication needs logical",
                hint="ALTER SYSTEM SET wal_level = logical, then restart the server",
            )
        rights = await self._query(catalog.PRIVILEGES, {}, "reading the role's rights")
        if rights and not rights[0][0]:
            raise OperatorError(
                f"role {rights[0][1]} may not replicate", hint=f"as a superuser: ALTER ROLE {rights[0][1]} REPLICATION"
            )
        for kind, plugin, database in await self._query(catalog.SLOT_KIND, {"slot": self._slot}, "reading the slot"):
            if kind != "logical" or plugin != "pgoutput":
                raise OperatorError(
                    f'slot "{self._slot}" is a {kind} slot ({plugin or "no plugin"}), not a logical one of pgoutput',
                    hint="choose another slot name, or drop that slot",
                )
            if database != identity.database:
                # Refused, not blocked: no server will ever move a slot into another database.
                raise Refused(
                    f'wrong source: slot "{self._slot}" belongs to database {database}, the DSN names '
                    f"{identity.database}; nothing was moved",
                    hint="correct the database in the DSN, or choose another slot name",
                )
        return identity

    async def check_publication(self, tables: Sequence[str]) -> publication.PublicationReport:
        """Compare the publication with the configured table patterns.

        Raises:
          OperatorError: it is missing, or lacks a table that is named exactly; with the statement that helps.
        """
        names = {"publication": self._publication}
        (head,) = await self._query(catalog.PUBLICATION, names, "reading the publication")
        version = await self._query("SELECT current_setting('server_version_num')::int", {}, "reading the version")
        filters = catalog.FILTERS if version[0][0] >= catalog.FILTERS_SINCE else catalog.NO_FILTERS
        published = await self._query(catalog.PUBLISHED.format(filters=filters), names, "reading the publication")
        existing = await self._query(catalog.TABLES, {}, "reading the tables")
        exact = [pattern.split(".", 1) for pattern in tables if "%" not in pattern]
        parts = {"schemas": [schema for schema, _ in exact], "tables": [table for _, table in exact]}
        quoted = await self._query(catalog.QUOTED, parts, "quoting the tables")
        return publication.report(
            tables,
            publication.Publication(*head),
            [publication.Published(*row) for row in published],
            [publication.Existing(*row) for row in existing],
            dict(zip((f"{schema}.{table}" for schema, table in exact), (row[0] for row in quoted), strict=True)),
        )

    async def relation_facts(self, oid: int, schema: str = "", table: str = "") -> relations.RelationFacts:
        """NOT NULL, defaults and the key of a table; when it is gone, of the one that has its name now, if any."""
        columns = await self._query(catalog.COLUMNS, {"oid": oid}, "reading a table's columns")
        if not columns and table:
            names = {"schema": schema, "table": table}
            found = await self._query(catalog.NAMED, names, "reading a table's successor")
            return await self.relation_facts(found[0][0]) if found else relations.RelationFacts()
        key = await self._query(catalog.KEY, {"oid": oid}, "reading a table's key")
        facts = {name: relations.ColumnFacts(not_null, default) for name, not_null, default in columns}
        return relations.RelationFacts(facts, tuple(key[0][0]) if key else ())

    async def types(self, oids: Iterable[int]) -> dict[int, PgType]:
        """What these type oids mean, elements and domains resolved; without those that are gone."""
        wanted = sorted(set(oids))
        rows = await self._query(catalog.TYPES, {"oids": wanted}, "reading column types")
        known = relations.build_types({row[0]: relations.TypeRow(*row) for row in rows})
        return {oid: known[oid] for oid in wanted if oid in known}

    async def _query(self, sql: str, parameters: Mapping[str, Any], doing: str) -> list[Row]:
        async with self._lock:
            reused = self._connection is not None
            try:
                return await self._ask(sql, parameters, doing)
            except TransientError:
                # An idle connection that the server closed long ago says nothing about the server of now.
                if not reused:
                    raise
            return await self._ask(sql, parameters, doing)

    async def _ask(self, sql: str, parameters: Mapping[str, Any], doing: str) -> list[Row]:
        if self._loop is None:
            raise UsageError("a ControlSession is used outside of its `async with`")
        rows: list[Row] | None = None
        try:
            with trio.move_on_after(QUERY_S):
                if self._connection is None or self._connection.closed:
                    self._connection = await self._connect(self._loop)
                rows = await self._loop.run_aio_coroutine(_execute(self._connection, sql, parameters))
        except psycopg.Error as error:
            raise self._judge(error, doing) from None
        finally:
            if rows is None:
                self._drop()
        if rows is None:
            raise TransientError(f"{doing}: {self._dsn} did not answer within {QUERY_S:g} s", hint="the server hangs")
        return rows

    async def _connect(self, loop: trio_asyncio.TrioEventLoop) -> _Connection:
        seconds = session.deadline(self._dsn)
        failure: DeltaforgeError | None = None
        addresses = await session.resolve(self._dsn)
        for keywords in session.attempts_keywords(self._dsn, addresses, "deltaforge control"):
            with trio.move_on_after(seconds):
                try:
                    opened: _Connection = await loop.run_aio_coroutine(_open(session.conninfo(keywords).decode()))
                    return opened
                except psycopg.Error as error:
                    failure = session.no_descriptor(str(self._dsn)) or faults.from_connect_text(
                        str(error), str(self._dsn)
                    )
                    continue
            failure = TransientError(f"cannot connect to {self._dsn}: no answer within {seconds:g} s")
        assert failure is not None
        # `from None` would not do: the error of psycopg is out of reach already, and may quote what it was given.
        raise failure

    def _judge(self, error: psycopg.Error, doing: str) -> DeltaforgeError:
        if error.sqlstate is not None:
            return faults.from_sqlstate(error.sqlstate, error.diag.message_primary or "", doing)
        return TransientError(f"{doing}: the connection to {self._dsn} broke: {faults.clean(str(error))}")

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.pgconn.finish()


async def _open(conninfo: str) -> _Connection:
    connection = await _Connection.connect(conninfo, autocommit=True, prepare_threshold=None)
    try:
        if connection.info.server_version >= session.TRANSACTION_TIMEOUT_SINCE:
            await connection.execute(session.NO_TRANSACTION_TIMEOUT)
        if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
            await connection.execute(session.AS_IT_IS)
            for kind in _TEXTS:
                connection.adapters.register_loader(kind, _TextOfNoEncoding)
    except BaseException:
        connection.pgconn.finish()
        raise
    return connection


class _TextOfNoEncoding(Loader):
    """Names and defaults as the stream's reader shows them: what is no UTF-8 is replaced."""

    def load(self, data: Buffer) -> str:
        return bytes(data).decode(errors="replace")


async def _execute(connection: _Connection, sql: str, parameters: Mapping[str, Any]) -> list[Row]:
    async with connection.cursor() as cursor:
        await cursor.execute(sql.encode(), parameters)
        return await cursor.fetchall()
