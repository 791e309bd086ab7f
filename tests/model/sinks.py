"""A sink's steps: opening, the door, the Kafka transaction, and what follows when one of them fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from deltaforge.sinks.kafka.grouping import End
from tests.model.base import Base
from tests.model.state import LEASE, Sink, State, Topic, fenced, replace, with_topic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.base import Step
    from tests.model.product import Taken


class Sinks(Base):
    """What sink `j` of instance `i` may do next."""

    opening: ClassVar[tuple[str, ...]] = ("check", "init", "read", "guard")
    """Lease, producer, record, slot and guard: in this order."""
    rebuilding: ClassVar[tuple[str, ...]] = ("check", "init", "check again")

    def sink(self, state: State, i: int, j: int, sink: Sink) -> Iterator[Step]:
        if sink.phase == "idle":
            if sink.inbox:
                yield from self.begin(state, i, j, sink)
            return
        if sink.phase != "run":
            yield from self.open(state, i, j, sink)
            return
        if sink.settle:
            yield from self.settle(state, i, j, sink)
        elif sink.kept:
            yield from self.produce_kept(state, i, j, sink)
        else:
            yield from self.consider_end(state, i, j, sink)
            yield from self.now_and_then(state, i, j, sink)
        if sink.inbox:
            yield from self.take(state, i, j, sink)

    # ---- opening

    def begin(self, state: State, i: int, j: int, sink: Sink) -> Iterator[Step]:
        """A Lease. One of an epoch that somebody wants to leave is dropped."""
        (age, lease, n), inbox = sink.inbox[0], sink.inbox[1:]
        instance = state.instances[i]
        held = self.held(j, sink)
        idle = replace(self.blank(j, replace(sink, inbox=(), phase="idle", age=0)), inbox=inbox, held=held)
        if n != LEASE or (not age and instance.rewind):
            yield f"{i}.{j}: drops what is of no epoch", self.put(state, i, j, idle)
            return
        started = replace(idle, report="starting", phase=self.opening[0], age=age, lease=lease)
        if self.kinds[j] == "file":
            yield self.begin_small(state, i, j, started)
        else:
            yield f"{i}.{j}: takes the Lease", self.put(state, i, j, started)

    def begin_small(self, state: State, i: int, j: int, sink: Sink) -> Step:
        """A sink without a checkpoint topic: it has nothing to ask."""
        world, confirmed, _ = self.epochs[sink.lease]
        door = self.product.small(self.product.lease(world, confirmed), sink.memory, sink.held)
        if not door:
            return self.refused(self.put(state, i, j, sink), i, j, "the slot stands past it")
        ready = replace(sink, phase="run", report="running", door=door, gate=not sink.age or sink.gate, found=0)
        return f"{i}.{j}: takes the Lease", self.put(state, i, j, ready)

    def holds(self, state: State, i: int, sink: Sink) -> bool:
        """Whether the control session says that this stream's walsender has the slot."""
        return state.server.owner == i and not sink.age

    def open(self, state: State, i: int, j: int, sink: Sink) -> Iterator[Step]:
        step, topic = sink.phase, state.topics[j]
        follows = dict(zip(self.opening, (*self.opening[1:], "run"), strict=True))
        after = replace(sink, phase=follows[step])
        if step == "check":
            if self.holds(state, i, sink):
                yield f"{i}.{j}: the slot is ours", self.put(state, i, j, after)
            else:
                yield from self.doubted(state, i, j, "the slot is not ours")
        elif step == "init":
            yield f"{i}.{j}: init_transactions", with_topic(self.put(state, i, j, after), j, fenced(topic, i))
        elif step == "read":
            if (records := self.readable(topic)) is not None:
                after = replace(after, found=self.product.read(*records))
                yield f"{i}.{j}: reads the checkpoint", self.put(state, i, j, after)
        else:
            yield from self.guard(state, i, j, after)

    def readable(self, topic: Topic) -> tuple[bool, int, int] | None:
        """The checkpoint topic to its end; None while somebody's open transaction hides the end."""
        return None if topic.stable is not None else (topic.creating, topic.born, topic.record)

    def guard(self, state: State, i: int, j: int, sink: Sink) -> Iterator[Step]:
        server = state.server
        world, confirmed, _ = self.epochs[sink.lease]
        ours = self.holds(state, i, state.instances[i].sinks[j])
        slot = self.product.slot(server.world, server.slot, server.confirmed, ours=ours)
        marks = self.ends_of(state.topics[j])
        result = self.product.open(self.product.lease(world, confirmed), sink.found, slot, marks)
        if result.refused:
            yield self.refused(state, i, j, result.refused)
        elif not result.door:
            yield from self.doubted(state, i, j, "the slot is not ours any more")
        else:
            ready = replace(sink, report="running", door=result.door, marks=result.marks, gate=True, found=0)
            yield f"{i}.{j}: guard passed", self.put(state, i, j, ready)

    def ends_of(self, topic: Topic) -> tuple[int, int]:
        """The data topic as a mark: which one it is, and where it ends."""
        return (topic.life, len(topic.log)) if self.marked else (0, 0)

    def refused(self, state: State, i: int, j: int, why: str) -> Step:
        """The pipeline ends, or this sink is parked alone."""
        instance = state.instances[i]
        if not self.product.spared(j, self.places(instance)):
            return self.refuse(state, i, f"sink {j}: {why}")
        sink, back = instance.sinks[j], self.product.brings_back(j, self.places(instance))
        parked = replace(self.blank(j, sink), report="parked", gate=sink.gate or not sink.age)
        return f"{i}.{j}: is parked, {why}", self.put(state, i, j, parked, rewind=instance.rewind or back)

    def doubted(self, state: State, i: int, j: int, why: str) -> Iterator[Step]:
        for n, after in enumerate(self.doubt(state, i, j)):
            yield f"{'MAYBE ' * n}{i}.{j}: {why}, rewind{' and detached' * n}", after

    # ---- the door

    def take(self, state: State, i: int, j: int, sink: Sink) -> Iterator[Step]:
        (age, lease, n), inbox = sink.inbox[0], sink.inbox[1:]
        if n == LEASE:
            yield from self.begin(state, i, j, sink)
            return
        sink = replace(sink, inbox=inbox)
        if (age, lease) != (sink.age, sink.lease):
            yield f"{i}.{j}: drops an item of another epoch", self.put(state, i, j, sink)
            return
        item = self.stream(lease)[n]
        taken = self.through(sink.door, n, item)
        label = f"{i}.{j}: door lets {taken.rows} of {self.shown(item)} in"
        if not taken.follows:
            yield from self.doubted(self.put(state, i, j, sink), i, j, "something was lost before the door")
        elif taken.refused and self.kinds[j] == "file":  # it has no Kafka whose trouble would be its own alone
            yield self.refuse(self.put(state, i, j, sink), i, f"sink {j}: {taken.refused}")
        elif taken.refused:
            yield self.refused(self.put(state, i, j, sink), i, j, taken.refused)
        elif self.kinds[j] == "file":
            yield label, self.write_down(state, i, j, sink, taken)
        elif sink.settle or sink.kept:
            if len(sink.kept) + len(taken.rows) <= self.setup.kept:
                after = replace(self.let_in(sink, item, taken), kept=sink.kept + taken.rows)
                yield f"{label}, to wait for the commit", self.put(state, i, j, after)
        else:
            before = self.put(state, i, j, sink)
            produced = self.produce(before, i, j, taken.rows)
            if produced is not None:
                yield label, self.put(produced, i, j, self.let_in(sink, item, taken))
            elif not self.must_wait(state, i, j):
                yield from self.doubted(before, i, j, "producing fails")

    def through(self, door: int, n: int, item: int) -> Taken:
        return self.product.take(door, n, item)

    def shown(self, item: int) -> str:
        raise NotImplementedError

    def let_in(self, sink: Sink, item: int, taken: Taken) -> Sink:
        after = replace(sink, door=taken.door, last=item, open=sink.open or bool(taken.rows))
        return self.told(after)

    def told(self, sink: Sink) -> Sink:
        """The receipt says what the door allows; one of an older epoch counts for nothing."""
        return sink if sink.age else replace(sink, receipt=self.product.receipt(sink.door))

    def write_down(self, state: State, i: int, j: int, sink: Sink, taken: Taken) -> State:
        """A file: durable at once."""
        progress = self.product.accepted(taken.door)
        door = self.product.committed(taken.door, progress)
        topic = state.topics[j]
        state = with_topic(state, j, replace(topic, log=topic.log + taken.rows))
        held = max(sink.held, self.product.accepted_flush(door))
        return self.put(state, i, j, self.told(replace(sink, door=door, memory=progress, held=held)))

    # ---- producing

    def must_wait(self, state: State, i: int, j: int) -> bool:
        """CONCURRENT_TRANSACTIONS: the markers of our last commit are not written yet, and librdkafka waits."""
        return state.topics[j].state == "prepared" and state.topics[j].owner == i

    def produce(self, state: State, i: int, j: int, rows: tuple[str, ...]) -> State | None:
        """Rows into the Kafka transaction, or out at once; None when Kafka does not take them."""
        topic, sink = state.topics[j], state.instances[i].sinks[j]
        if not rows:
            return state
        if self.kinds[j] == "least":
            if state.damage.kind in ("tail", "older") and topic.owner != i:
                return None  # the broker that lost rows lost their numbers, too
            return with_topic(state, j, replace(topic, log=topic.log + rows))
        begun = sink.open and not sink.kept
        if topic.owner != i or topic.state != ("open" if begun else ""):
            return None
        return with_topic(state, j, replace(topic, state="open", rows=topic.rows + rows))

    def produce_kept(self, state: State, i: int, j: int, sink: Sink) -> Iterator[Step]:
        after = self.produce(state, i, j, sink.kept)
        if after is not None:
            yield f"{i}.{j}: produces what waited", self.put(after, i, j, replace(sink, kept=()))
        elif not self.must_wait(state, i, j):
            yield from self.doubted(state, i, j, "producing fails")

    # ---- the end of a Kafka transaction

    def consider_end(self, state: State, i: int, j: int, sink: Sink) -> Iterator[Step]:
        if sink.open:
            ends = self.product.ends(at_commit=self.source.flushes[sink.last] != 0, late=self.source.splits(sink.last))
            if ends - {End.NO}:
                yield from self.end_transaction(state, i, j, sink)
        elif self.kinds[j] != "file" and self.product.idle_gain(sink.door):
            yield from self.end_transaction(state, i, j, sink)

    def end_transaction(self, state: State, i: int, j: int, sink: Sink) -> Iterator[Step]:
        """The checkpoint record goes with the rows; then EndTxn is sent."""
        topic = state.topics[j]
        begun = sink.open and self.kinds[j] == "exact"
        if self.must_wait(state, i, j):
            return
        if topic.owner != i or topic.state != ("open" if begun else ""):
            yield from self.doubted(state, i, j, "producing the checkpoint record fails")
            return
        world, confirmed, _ = self.epochs[sink.lease]
        progress = self.product.accepted(sink.door)
        record = self.product.record(self.product.lease(world, confirmed), progress, sink.marks)
        after = self.put(state, i, j, replace(sink, settle="ending", progress=progress, open=False))
        label = f"{i}.{j}: sends the checkpoint record and EndTxn, {self.product.said(progress)}"
        yield label, with_topic(after, j, replace(topic, state="open", pending=record, endtxn=True))

    def settle(self, state: State, i: int, j: int, sink: Sink) -> Iterator[Step]:
        topic = state.topics[j]
        if sink.settle == "ending":
            if topic.owner != i:
                yield from self.doubted(state, i, j, "the commit fails")
            elif not topic.endtxn and topic.state != "open":
                yield f"{i}.{j}: commit answered", self.put(state, i, j, self.durable(sink))
        elif sink.settle == "init":
            after = self.put(state, i, j, replace(sink, settle="check again"))
            yield f"{i}.{j}: init_transactions, rebuilt", with_topic(after, j, fenced(topic, i))
        elif not self.holds(state, i, sink):
            yield from self.doubted(state, i, j, "the slot is not ours")
        else:
            checked = replace(sink, settle="init" if sink.settle == "check" else "")
            yield f"{i}.{j}: the slot is ours", self.put(state, i, j, checked)

    def durable(self, sink: Sink, settle: str = "") -> Sink:
        door = self.product.committed(sink.door, sink.progress)
        return self.told(replace(sink, door=door, progress=0, settle=settle))

    # ---- now and then

    def now_and_then(self, state: State, i: int, j: int, sink: Sink) -> Iterator[Step]:
        """What time brings: WAL that makes an idle checkpoint due, and every ten seconds a look at the data topics."""
        if state.damage.sink == j and state.topics[j].owner != i and not sink.open:
            yield from self.doubted(state, i, j, "an idle checkpoint fails")
        marks = self.ends_of(state.topics[j])
        if sink.marks != marks and self.kinds[j] != "file":
            if why := self.product.same_topic(sink.marks, marks):
                yield self.refused(state, i, j, why)
            else:
                yield f"MAYBE {i}.{j}: looks at the topics", self.put(state, i, j, replace(sink, marks=marks))
