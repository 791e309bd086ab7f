"""What the model asks the product: every decision that deltaforge makes in pure code.

Functions are looked up in their modules at every call, so that a mutant can put a wrong one in their place.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import msgspec

from deltaforge import position
from deltaforge.checkpoint import policy
from deltaforge.config.load import load_bytes
from deltaforge.errors import Refused
from deltaforge.graph import Graph
from deltaforge.metrics import PipelineMetrics
from deltaforge.model import Progress, Receipt, SlotState, Stored, TopicMark
from deltaforge.position import NO_LSN
from deltaforge.runtime import RunOptions
from deltaforge.sinks.kafka import grouping, opening
from tests.model.interning import Interned, Value
from tests.model.records import EPOCH, IDENTITY, TOPIC, Records, mark_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from deltaforge.graph import SinkUnit
    from deltaforge.source.sql import ControlSession
    from tests.model.histories import Source

_CONTROL = cast("ControlSession", type("Control", (), {"slot_state": None}))
_SINK = b"    - {type: memory, config: {id: s%d, required: %s}}\n"
_PIPELINE = b"""
apiVersion: deltaforge/v1
kind: Pipeline
metadata: {name: model}
spec:
  source:
    type: postgres
    config: {id: s, dsn: "postgres://u@127.0.0.1/d", slot: s, publication: p, tables: [public.t]}
  commit_policy: {mode: %s%s}
  sinks:
"""


class Taken(NamedTuple):
    """What became of an item at a door."""

    door: int
    rows: tuple[str, ...] = ()
    follows: bool = True
    refused: str = ""


class Opened(NamedTuple):
    """How a sink's opening ended: with a door, without the lease, or with a refusal."""

    door: int = 0
    marks: tuple[int, int] = (0, 0)
    refused: str = ""


class Place(NamedTuple):
    """How a sink takes part in the current epoch."""

    attached: bool
    report: str
    """What it last said of itself: starting, running or parked."""
    passed: bool
    """Its guard has spoken in this epoch."""


class Policy(NamedTuple):
    """commit_policy, and which sinks are marked `required`."""

    mode: str
    quorum: int | None
    required: tuple[bool, ...]


class Product(Records):
    """The product's decisions over one source and one pipeline."""

    def __init__(self, source: Source, policy: Policy) -> None:
        super().__init__(source)
        self.policy = policy
        self.doors: Interned[position.Door] = Interned()
        self.receipts: Interned[Receipt] = Interned()
        self.names = [f"s{number}" for number in range(len(policy.required))]
        self._graph = _graph(policy)
        self.needed = [self._graph.needs(unit) for unit in self._graph.units]
        """Whether the commit policy waits for each sink."""

    # ---- the door

    def _door(self, door: position.Door) -> int:
        """Doors with equal attributes behave alike."""
        return self.doors.of(door, (type(door), *vars(door).items()))

    def take(self, door: int, n: int, item: int) -> Taken:
        """Item number `item`, the n-th of its stream, at a door."""
        return self.once(("take", door, n, item), lambda: self._take(copy.copy(self.doors[door]), n, item))

    def _take(self, door: position.Door, n: int, item: int) -> Taken:
        if not door.follows(n, n + 1):
            return Taken(0, follows=False)
        rows: tuple[str, ...] = ()
        try:
            for piece in door.pieces(self.source.items[item]):
                rows += self.source.rows(piece, door.take(piece))
        except Refused as refusal:
            return Taken(0, refused=str(refusal))
        return Taken(self._door(door), rows)

    def committed(self, door: int, progress: int) -> int:
        """The door once `progress` is durable."""

        def ask() -> int:
            after = copy.copy(self.doors[door])
            after.committed(self.progresses[progress])
            return self._door(after)

        return self.once(("committed", door, progress), ask)

    def accepted(self, door: int) -> int:
        """What a checkpoint would record now."""
        return self.once(("accepted", door), lambda: self.progresses.of(self.doors[door].accepted))

    def durable(self, door: int) -> int:
        """What the door knows to be durable."""
        return self.once(("durable", door), lambda: self.progresses.of(self.doors[door].durable))

    def taken(self, door: int) -> int:
        """How many items of the stream a door has taken."""
        return self.doors[door]._end

    def accepted_flush(self, door: int) -> int:
        """What could be confirmed if all that was let in were durable."""
        return self.doors[door].accepted.flush_lsn

    def idle_gain(self, door: int) -> bool:
        """Whether an idle checkpoint would let PostgreSQL forget something."""
        made = self.doors[door]
        return bool(made.accepted.flush_lsn > made.durable.flush_lsn)

    def receipt(self, door: int) -> int:
        """The sink's word about its door; 0 when it allows nothing yet."""

        def ask() -> int:
            made = self.doors[door]
            lsn = made.confirmable
            return self.receipts.of(Receipt(EPOCH, made.durable.position, lsn, 0, made.event_end)) if lsn else 0

        return self.once(("receipt", door), ask)

    # ---- an epoch's beginning

    def open(self, lease: int, found: int, slot: SlotState, marks: tuple[int, int]) -> Opened:
        """The steps after init_transactions: record (read before), lease, guard, topics."""

        def ask() -> Opened:
            reader = _Checkpoints(self.found[found], marks)

            async def look() -> SlotState:  # noqa: ASYNC124 - asynchronous for its caller
                return slot

            held = self.leases[lease]
            work = opening.go_on_from(
                held, reader, look, IDENTITY, wait_s=0, accept_gap=NO_LSN, expected_topics=[TOPIC], held_up=_untold
            )
            try:
                result = _at_once(work)
            except Refused as refusal:
                return Opened(refused=str(refusal))
            except opening.LeaseLost:
                return Opened()
            door = position.Door(held, result.progress)
            door.committed(msgspec.structs.replace(result.progress, flush_lsn=result.recorded_flush))
            return Opened(self._door(door), _unmark(result.marks[0]))

        return self.once(("open", lease, found, slot, marks), ask)

    def same_topic(self, known: tuple[int, int], now: tuple[int, int]) -> str:
        """Why the data topic is not what it was, '' when it is: asked again and again in mid-epoch."""

        def ask() -> str:
            try:
                opening.compare_topics([mark_of(known)], [mark_of(now)])
            except Refused as refusal:
                return str(refusal)
            return ""

        return self.once(("topics", known, now), ask)

    def small(self, lease: int, memory: int, held: int) -> int:
        """The door of a sink that remembers its progress only itself; 0 when the slot has left it behind."""

        def ask() -> int:
            lent = self.leases[lease]
            durable = self.progresses[memory] if memory else Progress()
            known = durable if durable.anchor is not None else Progress()
            return 0 if lent.confirmed_flush > held else self._door(position.Door(lent, known))

        return self.once(("small", lease, memory, held), ask)

    # ---- the pipeline

    def first_start(
        self, slot: SlotState, found: tuple[int, ...], holding: frozenset[int], *, twice: bool
    ) -> position.Start | str:
        """The next step of a first start, or why there is none; `holding`: sinks that have a position, or need none."""

        def ask() -> position.Start | str:
            stored = tuple(self.found[n] for n in found)
            enough = self.enough(holding)
            try:
                return position.first_start(slot, stored, looked_twice=twice, enough=enough)
            except Refused as refusal:
                return str(refusal)

        return self.once(("first", slot, found, holding, twice), ask)

    def enough(self, sinks: frozenset[int]) -> bool:
        """Whether the policy is content with these sinks alone."""
        mode, quorum, required = self.policy
        marked = dict(zip(self.names, required, strict=True))
        return policy.enough(mode, quorum, marked, [self.names[sink] for sink in sinks])

    def confirm(self, receipts: tuple[int, ...]) -> int:
        """What PostgreSQL may be told; 0 = nothing."""
        return self.once(("confirm", receipts), lambda: self._confirm(receipts))

    def _confirm(self, receipts: Sequence[int]) -> int:
        mode, quorum, required = self.policy
        said = {name: self.receipts[n] if n else None for name, n in zip(self.names, receipts, strict=True)}
        marked = dict(zip(self.names, required, strict=True))
        found = policy.combine(mode, quorum, said, marked, EPOCH)
        return policy.without_idle_gap(found, said).lsn if found is not None else 0

    def spared(self, sink: int, places: tuple[Place, ...]) -> bool:
        """Whether the policy could do without a sink that refuses."""

        def ask() -> bool:
            return bool(self._placed(places)[sink].actor._w.spared())

        return self.once(("spared", sink, places), ask)

    def dispensable(self, sink: int, places: tuple[Place, ...]) -> bool:
        """Whether a sink that holds up the others would be left behind."""

        def ask() -> bool:
            attachment = self._placed(places)[sink].attachment
            return attachment.attached and attachment.detach_if_dispensable("asked by the model")

        return self.once(("dispensable", sink, places), ask)

    def brings_back(self, sink: int, places: tuple[Place, ...]) -> bool:
        """Whether a sink that parks itself makes the pipeline ask for a new epoch."""

        def ask() -> bool:
            parked = self._placed(places)[sink].actor
            self._graph.rewind.set(0)
            parked._report("detached", "asked by the model")
            return self._graph.rewind.value > 0

        return self.once(("brings back", sink, places), ask)

    def _placed(self, places: tuple[Place, ...]) -> list[SinkUnit]:
        """The graph's sinks, as if all this had happened to them."""
        self._graph.epoch.set(EPOCH)
        for unit, place in zip(self._graph.units, places, strict=True):
            unit.attachment.attached = place.attached
            self._graph.reports[unit.id] = ("detached" if place.report == "parked" else place.report, "")
            unit.gate.set(self._graph.epoch.value - (not place.passed))
        return self._graph.units

    def ends(self, *, at_commit: bool, late: bool) -> frozenset[grouping.End]:
        """What may happen to an open Kafka transaction after an item; `late`: after however long a time."""

        def ask() -> frozenset[grouping.End]:
            found = set()
            for more_waits in (False, True):
                for now in (0.0, 1e6) if late else (0.0,):
                    group = grouping.Grouping(grouping.Limits(0.1, True, None, None, 100.0))
                    group.add(1, 1, 1, 0.0)
                    found.add(group.end(at_commit=at_commit, more_waits=more_waits, now=now, lsn=1))
            return frozenset(found)

        return self.once(("ends", at_commit, late), ask)


def _graph(policy: Policy) -> Graph:
    """The product's graph of such a pipeline: what it thinks of its sinks does not depend on what they write to."""
    sinks = b"".join(_SINK % (n, b"true" if marked else b"false") for n, marked in enumerate(policy.required))
    quorum = b"" if policy.quorum is None else b", quorum: %d" % policy.quorum
    config = load_bytes(_PIPELINE % (policy.mode.encode(), quorum) + sinks, Path("model.yaml"), {}).require()
    metrics = PipelineMetrics("model")
    return Graph(config, metrics, RunOptions(), _CONTROL, instance="model", said=lambda: None)


def _unmark(mark: TopicMark) -> tuple[int, int]:
    return int(mark.topic_id.removeprefix("id")), mark.high_watermarks[0]


class _Checkpoints:
    """A checkpoint topic and its cluster, as a sink's opening sees them."""

    name = "checkpoints"

    def __init__(self, stored: Stored, marks: tuple[int, int]) -> None:
        self._stored, self._marks = stored, marks

    async def read(self, *, wait_s: float, held_up: Callable[[str], None]) -> Stored:  # noqa: ASYNC124 - asynchronous for its caller
        return self._stored

    async def topic_marks(self, topics: Sequence[str]) -> tuple[TopicMark, ...]:  # noqa: ASYNC124
        return tuple(mark_of(self._marks) for _ in topics)


def _untold(why: str) -> None:
    """Nobody listens to why a record is waited for."""


def _at_once(work: Coroutine[object, object, Value]) -> Value:
    """The result of a coroutine that never has to wait."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise AssertionError("the product waits for something that the model does not give")
