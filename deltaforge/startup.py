"""The first start: slot and checkpoint records come into being so that a kill between any two steps does no harm.

In every Kafka sink's checkpoint topic `creating`, then the slot, then `born` with the slot's first position. `creating`
says that a slot found later is ours; `born` says from where on Kafka holds everything. Each has a key of its own and is
written once; a `running` record wins over both. What to do next is decided by `position.first_start` from what is
found, never from what we remember, so that a killed start, or a rival's, is simply gone on with.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

import trio

from deltaforge.errors import OperatorError, Refused, TransientError
from deltaforge.failpoints import failpoint_async
from deltaforge.logs import get_logger
from deltaforge.model import Checkpoint, Lsn, Progress, Stored
from deltaforge.position import Start, first_start, identity

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from deltaforge.model import SlotState
    from deltaforge.source.sql import ControlSession, Identity

log = get_logger("startup")

_LOOK_AGAIN_S = 1.0


class Origin(Protocol):
    """What the first start needs of a checkpoint topic."""

    name: str

    async def peek(self) -> Stored: ...

    async def ensure(self, like_topic: str | None) -> tuple[str, ...]: ...

    async def write_first(self, record: Checkpoint) -> None: ...


class FirstStart:
    """Brings slot and records into being, or finds that they are there. Called by the reader before every stream.

    Args:
      make_slot: creates the slot and returns its consistent point; None when somebody was faster.
      prepare_topics: makes sure that the data topics exist and returns one of them, None when there is none.
      adopt: flag `--adopt-slot`: take over an existing slot that stands exactly there. 0 = not given.
      optional: names of the origins whose sinks the policy can do without. Once one has been seen with a position it
        is not asked again: its Kafka may be away, and its own guard looks at the record anyway.
      accept_gap: flag `--accept-gap`: go on although what follows this flush LSN is lost. 0 = not given.
      enough: whether the sinks of these origins are all that the policy needs. Where they alone have a position, the
        others are left to their own guard.
    """

    def __init__(
        self,
        *,
        slot: str,
        publication: str,
        options: str,
        instance: str,
        origins: Sequence[Origin],
        make_slot: Callable[[], Awaitable[Lsn | None]],
        prepare_topics: Callable[[Sequence[str]], Awaitable[str | None]],
        patterns: Sequence[str],
        adopt: Lsn,
        accept_gap: Lsn,
        optional: frozenset[str] = frozenset(),
        enough: Callable[[frozenset[str]], bool] = lambda origins: False,
    ) -> None:
        self._slot, self._publication, self._options, self._instance = slot, publication, options, instance
        self._origins, self._make_slot, self._prepare_topics = origins, make_slot, prepare_topics
        self._patterns, self._adopt, self._accept_gap = patterns, adopt, accept_gap
        self._optional, self._enough = optional, enough
        self._seen: dict[str, Stored] = {}
        self._server: Identity | None = None
        self._warned: set[str] = set()
        self._judged = False
        self.tables: tuple[str, ...] = ()
        """Published tables the configuration means, as of the last look."""

    async def prepare(self, control: ControlSession) -> None:
        """Make sure that a stream may begin.

        Cancellation: what has been written stays; the next call goes on from there.

        Raises:
          Refused: slot or record is missing or another's; nothing has been moved.
          TransientError: a server is away, or the slot's creation waits for older transactions.
          OperatorError: rights, publication, topics.
        """
        await self._check(control)
        looked_twice = False
        while True:
            slot = await control.slot_state()
            stored = await self._peek()
            begun = frozenset(
                o.name for o, found in zip(self._origins, stored, strict=True) if found.running or found.born
            )
            step = first_start(
                slot,
                stored,
                looked_twice=looked_twice,
                adopt=self._adopt,
                accept_gap=self._accept_gap,
                enough=bool(begun) and self._enough(begun),
            )
            if step is Start.STREAM:
                self._leave_out(begun)
                await self._judge_topics()
                return
            if step is Start.WAIT:
                raise TransientError(
                    f'slot "{self._slot}" is still being created: the server waits for transactions that began before',
                    hint="look for old transactions in pg_stat_activity (and pg_prepared_xacts)",
                )
            if step is Start.LOOK_AGAIN:
                looked_twice = True
                await trio.sleep(_LOOK_AGAIN_S)
                continue
            await self._do(step, slot, stored)

    async def _check(self, control: ControlSession) -> None:
        """Server, publication and tables. Raises as `prepare`."""
        self._server = await control.identify()
        try:
            await control.check_server()
            report = await control.check_publication(self._patterns)
        except OperatorError:
            # Much is missing on a wrong server. That it is the wrong one is the answer that helps.
            with contextlib.suppress(TransientError, OperatorError):
                await self._peek()  # noqa: ASYNC120 - cancelled, the cancellation is what matters
            raise
        self.tables = report.tables
        self._warn(report.warnings)

    def _leave_out(self, begun: frozenset[str]) -> None:
        """Ask no more after sinks that have lost their record: their own guard parks them, nobody waits for them."""
        for origin in self._origins:
            if origin.name not in begun:
                self._warn((f"checkpoint topic {origin.name} holds no record: its sink is left out, the others go on",))
        self._origins = [origin for origin in self._origins if origin.name in begun]

    async def _judge_topics(self) -> None:
        """Once in a process: a checkpoint topic that could lose its record is refused. Raises Refused."""
        if not self._judged:
            for origin in self._origins:
                self._warn(await origin.ensure(None))
            self._judged = True

    def _warn(self, warnings: Sequence[str]) -> None:
        for warning in warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                log.warning("configuration", detail=warning)

    async def _peek(self) -> tuple[Stored, ...]:
        """What the checkpoint topics hold; another source's record is refused before any producer exists."""
        assert self._server is not None
        found = []
        for origin in self._origins:
            stored = self._seen.get(origin.name) or await origin.peek()
            if origin.name in self._optional and (stored.running or stored.born):
                self._seen[origin.name] = stored
            for record in (stored.running, stored.born, stored.creating):
                if record is not None:
                    identity(record, self._server.system_id, self._server.database, self._slot)
            found.append(stored)
        return tuple(found)

    async def _do(self, step: Start, slot: SlotState, stored: tuple[Stored, ...]) -> None:
        if step is Start.WRITE_CREATING:
            await self._write_creating(stored)
        elif step is Start.CREATE_SLOT:
            await failpoint_async("startup.before_slot")
            log.info("creating the replication slot", slot=self._slot)
            point = await self._make_slot()
            await failpoint_async("startup.after_slot")
            if point is not None:
                await self._write_born(point)
        elif step is Start.ADOPT:
            log.info("adopting the replication slot", slot=self._slot, at=str(slot.confirmed_flush))
            await self._write_born(slot.confirmed_flush)
        elif step is Start.COPY_BORN:
            await self._write_born(next(s.born.progress.flush_lsn for s in stored if s.born))

    async def _write_creating(self, stored: tuple[Stored, ...]) -> None:
        like = await self._prepare_topics(self.tables)
        for origin, found in zip(self._origins, stored, strict=True):
            if found.creating is None:
                await failpoint_async("startup.before_topic")
                self._warn(await origin.ensure(like))
                await failpoint_async("startup.before_creating")
                await origin.write_first(self._record("creating", Lsn(0)))
                await failpoint_async("startup.after_creating")

    async def _write_born(self, at: Lsn) -> None:
        """Written once: whoever finds a `born` writes no other, and keeps to the one found."""
        for origin in self._origins:
            found = await origin.peek()
            if found.born is None and found.running is None:
                await failpoint_async("startup.before_born")
                await origin.write_first(self._record("born", at))
                await failpoint_async("startup.after_born")

    def _record(self, state: str, flush: Lsn) -> Checkpoint:
        if self._server is None:
            raise Refused("the server is not known yet")
        return Checkpoint(
            state=state,
            system_id=self._server.system_id,
            timeline=self._server.timeline,
            database=self._server.database,
            slot=self._slot,
            publication=self._publication,
            options=self._options,
            instance=self._instance,
            seq=0,
            progress=Progress(flush_lsn=flush),
        )
