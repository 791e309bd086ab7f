"""The reader's steps: the first start, the stream, and what PostgreSQL is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltaforge.position import Start
from tests.model.base import Base
from tests.model.histories import BORN
from tests.model.state import LEASE, Instance, Reader, Sink, State, replace, visible, with_instance, with_topic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.base import Step
    from tests.model.state import Entry


class Reading(Base):
    """What the reader of an instance may do next."""

    def reader(self, state: State, i: int, instance: Instance) -> Iterator[Step]:
        phase = instance.reader.phase
        if phase == "start":
            yield from self.start(state, i, instance)
        elif phase not in ("lease", "stream"):
            if phase != "made":
                yield self.first_start(state, i, instance)
        elif instance.rewind:
            yield f"{i}: reader rewinds", self.close(state, i)
            yield from self.feedback(state, i, instance)
        else:
            if state.server.owner != i:
                yield f"{i}: reader finds its stream dead", self.close(state, i)
            if phase == "lease":
                yield from self.publish(state, i, instance)
            else:
                yield from self.read(state, i, instance)
                yield from self.feedback(state, i, instance)

    # ---- the first start

    def first_start(self, state: State, i: int, instance: Instance) -> Step:
        """A step of FirstStart.prepare: it looks for the slot, then for the records, and does what follows."""
        server, reader = state.server, instance.reader

        def go(label: str, after: Reader, state: State = state) -> Step:
            return f"{i}: {label}", with_instance(state, i, replace(instance, reader=after))

        if reader.phase == "look":
            return go("looks for the slot", replace(reader, phase="peek", slot=server.slot, lsn=server.confirmed))
        if reader.phase == "peek":
            return self.decide(state, i, instance)
        if reader.phase == "creating":
            j, todo = reader.todo[0], reader.todo[1:]
            after = with_topic(state, j, replace(state.topics[j], creating=True))
            return go(
                f"writes `creating` to {j}", replace(reader, phase="creating" if todo else "look", todo=todo), after
            )
        if reader.phase == "create":
            if server.slot:
                return go("CREATE_REPLICATION_SLOT: already exists", Reader(twice=reader.twice))
            after = replace(state, server=replace(server, slot=True, confirmed=0))
            return go("CREATE_REPLICATION_SLOT", replace(reader, phase="made"), after)
        return self.write_born(state, i, instance)

    def write_born(self, state: State, i: int, instance: Instance) -> Step:
        """`born` is written once: whoever finds one, or a position, writes no other."""
        reader = instance.reader
        if not reader.todo:
            after = Reader(twice=reader.twice)
            return f"{i}: `born` is everywhere", with_instance(state, i, replace(instance, reader=after))
        j, todo = reader.todo[0], reader.todo[1:]
        if reader.phase == "born":
            _, born, record = visible(state.topics[j])
            there = self.born_is_there(born, record)
            after = replace(reader, todo=todo) if there else replace(reader, phase="write")
            label = f"{i}: looks for `born` in {j}"
            return label, with_instance(state, i, replace(instance, reader=after))
        after = replace(reader, phase="born", todo=todo)
        state = with_topic(state, j, replace(state.topics[j], born=reader.lsn))
        return f"{i}: writes `born` {reader.lsn} to {j}", with_instance(state, i, replace(instance, reader=after))

    def born_is_there(self, born: int, record: int) -> bool:
        return bool(born or record)

    def decide(self, state: State, i: int, instance: Instance) -> Step:
        """What the product makes of slot and records."""
        reader = instance.reader
        slot = self.product.slot(state.server.world, reader.slot, reader.lsn)
        seen = [(True, BORN, 0) if j in instance.seen else visible(state.topics[j]) for j in self.kafka]
        found = tuple(self.product.read(*each) for each in seen)
        begun = {j for j, (_, born, record) in zip(self.kafka, seen, strict=True) if born or record}
        instance = replace(instance, seen=tuple(sorted(begun - self.asked_always)))
        holding = (
            frozenset(begun | {j for j, kind in enumerate(self.kinds) if kind == "file"}) if begun else frozenset()
        )
        step = self.product.first_start(slot, found, holding, twice=reader.twice)
        if isinstance(step, str):
            return self.refuse(state, i, step)
        missing = tuple(j for j, (creating, _, _) in zip(self.kafka, seen, strict=True) if not creating)
        after = {
            Start.STREAM: Reader("start"),
            Start.WAIT: Reader(),
            Start.LOOK_AGAIN: Reader(twice=True),
            Start.WRITE_CREATING: Reader("creating" if missing else "look", reader.twice, todo=missing),
            Start.CREATE_SLOT: Reader("create", reader.twice),
            Start.ADOPT: self.adopts(reader),
            Start.COPY_BORN: Reader("born", reader.twice, lsn=max((s[1] for s in seen), default=0), todo=self.kafka),
        }[step]
        if step is Start.STREAM:  # a spared sink without a position is left out
            instance = replace(instance, seen=tuple(j for j in self.kafka if j not in self.asked_always))
        return f"{i}: {step.value}", with_instance(state, i, replace(instance, reader=after))

    def adopts(self, reader: Reader) -> Reader:
        return replace(reader, phase="born", todo=self.kafka)

    # ---- the stream

    def start(self, state: State, i: int, instance: Instance) -> Iterator[Step]:
        """START_REPLICATION: whoever holds the slot has the lease; busy = stand by."""
        server = state.server
        if not server.slot:
            again = with_instance(state, i, replace(instance, reader=Reader()))
            yield f"{i}: START_REPLICATION: no such slot", again
        elif server.owner == -1 and server.confirmed:
            for cut in range(self.setup.cuts):
                lease = self.epochs.of((server.world, server.confirmed, cut))
                after = with_instance(state, i, replace(instance, reader=Reader("lease"), lease=lease))
                yield (
                    f"{i}: START_REPLICATION, confirmed_flush {server.confirmed}, cut {cut}",
                    replace(after, server=replace(server, owner=i)),
                )

    def publish(self, state: State, i: int, instance: Instance) -> Iterator[Step]:
        for label, after in self.push(state, i, instance, (0, instance.lease, LEASE)):
            ready = replace(after.instances[i], reader=Reader("stream"))
            yield f"{label}: publishes the Lease", with_instance(after, i, ready)

    def read(self, state: State, i: int, instance: Instance) -> Iterator[Step]:
        """One item into every inbox, once the sinks that are waited for have passed their guard."""
        stream, n = self.stream(instance.lease), instance.read
        dead = state.server.owner != i
        if n >= len(stream) or (dead and not instance.socket):
            return
        closed = [j for j, sink in enumerate(instance.sinks) if not sink.gate]
        if any(self.product.needed[j] for j in closed):
            return
        late = "MAYBE " if closed else ""
        for label, after in self.push(state, i, instance, (0, instance.lease, n)):
            ready = replace(after.instances[i], read=n + 1, socket=instance.socket - dead)
            yield f"{late}{label}: reads {self.shown(stream[n])}", with_instance(after, i, ready)

    def push(self, state: State, i: int, instance: Instance, entry: Entry) -> Iterator[Step]:
        """`entry` into every inbox, or into none; a full one may be detached."""
        full = [j for j, s in enumerate(instance.sinks) if s.attached and len(s.inbox) >= self.setup.room]
        if not full:
            sinks = tuple(_given(sink, entry) for sink in instance.sinks)
            yield f"{i}", with_instance(state, i, replace(instance, sinks=sinks))
        elif self.product.dispensable(full[0], self.places(instance)):
            j, sink = full[0], instance.sinks[full[0]]
            detached = self.put(state, i, j, replace(sink, attached=False, inbox=(), held=self.held(j, sink)))
            for label, after in self.push(detached, i, detached.instances[i], entry):
                yield f"MAYBE {label}: leaves {j} behind", after

    def shown(self, item: int) -> str:
        """An item for the eye."""
        return self.source.names[item]

    # ---- feedback

    def feedback(self, state: State, i: int, instance: Instance) -> Iterator[Step]:
        """What the commit policy makes of the sinks' receipts, on a stream that lives."""
        server = state.server
        lsn = int(self.confirmable(state, instance))
        if server.owner == i and lsn > server.confirmed:
            yield f"{i}: confirms {lsn}", replace(state, server=replace(server, confirmed=lsn))

    def confirmable(self, state: State, instance: Instance) -> int:
        return self.product.confirm(tuple(sink.receipt for sink in instance.sinks))

    # ---- the server

    def slot_is_made(self, state: State) -> Iterator[Step]:
        """Making a slot waits for older transactions, also when whoever asked for it is gone."""
        server = state.server
        if server.slot and not server.confirmed:
            # All transactions come after the first creation, and before a second one.
            point = self.source.worlds[server.world].end if state.damage.kind else BORN
            state = replace(state, server=replace(server, confirmed=point))
            for i, instance in enumerate(state.instances):
                if instance.reader.phase == "made":
                    reader = replace(instance.reader, phase="born", lsn=point, todo=self.kafka)
                    state = with_instance(state, i, replace(instance, reader=reader))
            yield f"server: the slot begins at {point}", state


def _given(sink: Sink, entry: Entry) -> Sink:
    """A sink that waits for a Lease drops everything else, at once."""
    if not sink.attached or (sink.phase == "idle" and not sink.inbox and entry[2] != LEASE):
        return sink
    return replace(sink, inbox=(*sink.inbox, entry))
