"""What may go wrong. Every fault has a kind, which a setup allows or not, and costs one of its budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from tests.model.histories import BORN
from tests.model.reading import Reading
from tests.model.sinks import Sinks
from tests.model.state import (
    LEASE,
    Damage,
    Instance,
    Reader,
    Server,
    Sink,
    State,
    Topic,
    committed,
    fenced,
    replace,
    with_instance,
    with_topic,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.base import Step

Fault: TypeAlias = tuple[str, str, State]
"""Kind, what happens, and what comes of it."""

PROCESS = frozenset({"crash", "reader", "sink", "stage", "doubt", "timeout", "cut", "server"})
"""What a pipeline has to survive by itself. Besides these: flow, pause, slow, pin, failover."""
DAMAGE = frozenset({"restore", "drop", "advance", "carried", "forgot", "tail", "older", "recreated"})
"""What it has to notice, and refuse to go on. A failover is of this kind when it loses the WAL's end."""


class Faults(Reading, Sinks):
    """All faults of a state."""

    def faults(self, state: State) -> Iterator[Step]:
        """Each fault the setup allows, its cost paid."""
        if state.left:
            paid = replace(state, left=state.left - 1)
            for kind, label, after in (*self.process_faults(paid), *self.kafka_faults(paid), *self.server_faults(paid)):
                if kind in self.setup.faults:
                    yield f"FAULT {label}", after

    def may(self, *kinds: str) -> bool:
        """Whether the setup allows one of these: what it does not allow need not be worked out."""
        return not self.setup.faults.isdisjoint(kinds)

    # ---- processes

    def process_faults(self, state: State) -> Iterator[Fault]:
        for i, instance in enumerate(state.instances):
            if instance.reader.phase == "refused":
                continue
            if self.may("crash"):
                yield "crash", f"{i} killed", self.end(state, i, self.new_process())
            if instance.paused:
                continue
            if i == 0 and self.may("pause"):  # by symmetry no other one has to
                yield "pause", f"{i} stopped (SIGSTOP)", with_instance(state, i, replace(instance, paused=True))
            if instance.reader.phase in ("lease", "stream") and self.may("reader", "flow"):
                yield "reader", f"{i}: reader restarts", self.close(state, i)
                sinks = tuple(Sink(memory=s.memory, held=self.held(j, s)) for j, s in enumerate(instance.sinks))
                kept = Instance(seen=instance.seen, sinks=sinks)
                yield "flow", f"{i}: checkpointer restarts, and all after it", self.end(state, i, kept)
            for j, sink in enumerate(instance.sinks):
                if self.may("sink", "stage"):
                    yield from self.sink_faults(state, i, j, sink)
                if self.kinds[j] != "file" and sink.phase == "run":
                    yield from self.commit_faults(state, i, j, sink)

    def sink_faults(self, state: State, i: int, j: int, sink: Sink) -> Iterator[Fault]:
        instance = state.instances[i]
        streaming = instance.reader.phase in ("lease", "stream")
        if sink.phase != "idle" or sink.inbox:
            # It asks for an epoch newer than the current one, which its own may be older than.
            blank = self.blank(j, replace(sink, age=0 if streaming else 1))
            yield "sink", f"{i}.{j}: sink restarts", self.put(state, i, j, blank, rewind=streaming)
            if streaming and self.asks_too_often(instance, j):
                left = replace(blank, attached=False, inbox=())
                yield "sink", f"{i}.{j}: sink restarts too often and is detached", self.put(state, i, j, left)
        for at, (_, _, n) in enumerate(sink.inbox):
            what = "the Lease" if n == LEASE else "an item"
            lost = replace(sink, inbox=sink.inbox[:at] + sink.inbox[at + 1 :])
            rewind = instance.rewind or (streaming and self.asks_for_newer(n))
            yield "stage", f"{i}.{j}: a stage restarts and loses {what}", self.put(state, i, j, lost, rewind=rewind)

    def asks_for_newer(self, lost: int) -> bool:
        """Whoever restarts asks for an epoch newer than the current one, not than the last Lease it has seen."""
        return True

    def commit_faults(self, state: State, i: int, j: int, sink: Sink) -> Iterator[Fault]:
        topic, ending = state.topics[j], sink.settle == "ending"
        if self.may("doubt") and (ending or (sink.open and not sink.settle)):
            what = "no answer to EndTxn" if ending else "a delivery fails"
            for after in self.after_doubt(state, i, j):
                yield "doubt", f"{i}.{j}: {what}", after
        answered = ending and topic.owner == i and not topic.endtxn and topic.state != "open"
        if answered and self.may("slow", "late_endtxn"):
            # EndTxn was sent twice, and the copy is on its way.
            late = with_topic(state, j, replace(topic, endtxn=True))
            noticed = self.put(late, i, j, self.durable(sink, self.after_slow_commit(j)))
            yield "slow", f"{i}.{j}: commit answered late, a copy of EndTxn is on its way", noticed
            unnoticed = self.put(late, i, j, self.durable(sink))
            yield "late_endtxn", f"{i}.{j}: commit answered, a copy of EndTxn unnoticed on its way", unnoticed

    def after_doubt(self, state: State, i: int, j: int) -> Iterator[State]:
        return self.doubt(state, i, j)

    def after_slow_commit(self, j: int) -> str:
        """The producer is replaced before the next transaction; where that holds no rows, there is nothing to tear."""
        return self.rebuilding[0] if self.kinds[j] == "exact" else ""

    # ---- Kafka

    def kafka_faults(self, state: State) -> Iterator[Fault]:
        for j, topic in enumerate(state.topics):
            if self.kinds[j] == "file":
                continue
            if topic.state == "open":
                yield "timeout", f"kafka {j} aborts the transaction (timeout)", with_topic(state, j, fenced(topic, -1))
            if topic.stable is None and topic.born:
                pinned = replace(topic, stable=(topic.creating, topic.born, topic.record))
                yield "pin", f"kafka {j}: another producer opens a transaction", with_topic(state, j, pinned)
            if not state.damage.kind:
                for kind, label, after in self.kafka_damage(state, topic):
                    yield kind, f"kafka {j} {label}", self.damaged(state, j, kind, after)

    def kafka_damage(self, state: State, topic: Topic) -> Iterator[tuple[str, str, Topic]]:
        """A cluster that lost rows also knows their producers no more."""
        # A rival who is about to write `born` would write it over what is lost, and nothing would show that.
        rival = len(state.instances) > 1 and any(_starts(one.reader) for one in state.instances)
        if (topic.born or topic.record) and not rival:
            emptied = replace(topic, creating=False, born=0, record=0, stable=None)
            yield "forgot", "loses its checkpoint topic", replace(fenced(emptied, -1), record=0)
        if topic.state or not topic.record:
            return
        # What was lost above the recorded end, nobody can know.
        for length in range(self.product.recorded_end(topic.record)):
            yield "tail", f"keeps only {length} rows", fenced(replace(topic, log=topic.log[:length]), -1)
        yield "recreated", "has its topic made again", replace(topic, log=(), life=topic.life + 1)
        length, record = topic.older
        older = replace(topic, log=topic.log[:length], record=record)
        yield "older", "comes back as it was before its last commit", fenced(older, -1)

    def damaged(self, state: State, j: int, kind: str, topic: Topic) -> State:
        """What the sinks knew to be durable before may still be confirmed."""
        topics = [committed(before) if before.state == "prepared" else before for before in state.topics]
        flushed = [self.product.flush(before.record) for before in topics if before.record]
        damage = Damage(kind, j, max([state.server.confirmed, *flushed]))
        return replace(with_topic(state, j, topic), damage=damage)

    # ---- the server

    def server_faults(self, state: State) -> Iterator[Fault]:
        server, gone = state.server, self.cut(state)
        if server.owner >= 0:
            yield "cut", "the connection is lost", gone
        if not server.confirmed or not self.may("server", *DAMAGE, "failover"):
            return
        lowest = state.damage.confirmed if state.damage.kind and state.damage.sink < 0 else BORN
        for lower in self.positions(server.world):
            if lowest <= lower < server.confirmed:
                moved = replace(gone.server, confirmed=lower)
                yield "server", f"the server crashes, its slot falls back to {lower}", replace(gone, server=moved)
        if not state.damage.kind:
            yield from self.other_server(state)
            if server.owner == -1:
                yield from self.other_slot(state)

    def positions(self, world: int) -> list[int]:
        """Where the slot may have stood. WAL without events is confirmed later when a sink is spared, or not at all."""
        items = [n for n in self.source.stream(world, 0, 0) if self.all_needed or not self.source.is_mark(n)]
        return sorted({BORN, *(self.source.flushes[item] for item in items)} - {0})

    def other_server(self, state: State) -> Iterator[Fault]:
        confirmed, gone = state.server.confirmed, self.cut(state)

        def becomes(kind: str, label: str, world: int, at: int) -> Fault:
            return (
                kind,
                f"{label}, slot at {at}",
                replace(gone, server=Server(world, True, at), damage=Damage(kind, -1, at)),
            )

        for kind, label, world in ("restore", "an old copy is restored", 1), ("failover", "a standby takes over", 2):
            for at in self.positions(0):
                if at <= min(confirmed, self.source.worlds[world].fork):
                    yield becomes(kind, label, world, at)
        yield becomes("carried", "a standby takes over, its slot made as it was", 2, confirmed)

    def other_slot(self, state: State) -> Iterator[Fault]:
        """Somebody's hand on the slot; as long as nobody streams from it, and when a first start is through."""
        server = state.server
        if not self.kafka and not all(sink.held for one in state.instances for sink in one.sinks):
            return  # without a checkpoint topic, only a process that remembers can notice
        begun = any(topic.record or topic.born for topic in state.topics)
        if self.kafka and not begun and not any(one.reader.phase == "start" for one in state.instances):
            return

        def becomes(kind: str, label: str, slot: bool, at: int) -> Fault:
            moved = replace(server, slot=slot, confirmed=at)
            return kind, label, replace(state, server=moved, damage=Damage(kind, -1, at))

        end = self.source.worlds[server.world].end
        yield becomes("drop", "the slot is dropped", False, 0)
        yield becomes("drop", "the slot is dropped and made again", True, end)
        above = [at for at in self.positions(server.world) if at > server.confirmed]
        for at in {*above[:1], *above[-1:]}:
            yield becomes("advance", f"the slot is advanced to {at}", True, at)


def _starts(reader: Reader) -> bool:
    """Whether a reader has decided on a first start, or will, because it has found no slot."""
    finds_none = reader.phase == "peek" and not reader.slot
    return finds_none or reader.phase in ("creating", "create", "made", "born", "write")
