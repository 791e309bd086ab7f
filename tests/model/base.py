"""What all parts of the model stand on: the setup, the product's decisions, and what happens to a whole process."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from tests.model.histories import BORN, WORLDS, Source
from tests.model.interning import Interned
from tests.model.product import Place, Policy, Product
from tests.model.state import LEASE, Instance, Reader, Server, Sink, State, Topic, replace, with_instance

if TYPE_CHECKING:
    from collections.abc import Iterator

KAFKA = ("exact", "least")


class Kind(NamedTuple):
    """A sink of the pipeline: exact or least (Kafka, exactly or at least once), or file."""

    kind: str = "exact"
    required: bool = True


class Setup(NamedTuple):
    """What is explored."""

    wal: str = "full"
    instances: int = 1
    sinks: tuple[Kind, ...] = (Kind(),)
    mode: str = "all"
    quorum: int | None = None
    faults: frozenset[str] = frozenset()
    budget: int = 0
    room: int = 1
    """Entries an inbox holds."""
    kept: int = 1
    """Rows that may wait for a commit in flight."""
    cuts: int = 1
    """Ways in which a stream is cut into chunks."""
    born: bool = False
    """Begin after the first start."""
    coarse: bool = False
    """Opening a sink and ending a Kafka transaction are one step each."""


Step: TypeAlias = tuple[str, State]
"""What happens, and what comes of it. A label that begins with MAYBE: the run gets on without it."""


class Base:
    """The setup, and steps that concern a whole process."""

    def __init__(self, setup: Setup, source: Source | None = None) -> None:
        self.setup = setup
        self.source = source or Source(WORLDS[setup.wal])
        self.product = Product(self.source, Policy(setup.mode, setup.quorum, tuple(s.required for s in setup.sinks)))
        self.kinds = [sink.kind for sink in setup.sinks]
        self.kafka = tuple(j for j, kind in enumerate(self.kinds) if kind in KAFKA)
        self.asked_always = {j for j in self.kafka if self.product.needed[j]}
        """Sinks whose checkpoint topics are looked at before every stream."""
        self.all_needed = all(self.product.needed)
        self.marked = bool({"tail", "older", "recreated"} & setup.faults)
        """Whether what records say of the data topics can matter."""
        self.epochs: Interned[tuple[int, int, int]] = Interned()
        """World, confirmed position and way of cutting of each stream: what a Lease stands for."""

    def first(self) -> State:
        """Where everything begins."""
        process = Instance(sinks=(Sink(),) * len(self.kinds))
        topic, server = Topic(), Server()
        if self.setup.born:
            server = Server(slot=True, confirmed=BORN)
            topic = Topic(creating=True, born=BORN)
            spared = tuple(j for j in self.kafka if j not in self.asked_always)
            process = replace(process, reader=Reader("start"), seen=spared)
        topics = tuple(topic if kind in KAFKA else Topic() for kind in self.kinds)
        return State(server, topics, (process,) * self.setup.instances, self.setup.budget)

    def stream(self, lease: int) -> tuple[int, ...]:
        """Item numbers of a stream."""
        return self.source.stream(*self.epochs[lease])

    def new_process(self) -> Instance:
        return Instance(sinks=(Sink(),) * len(self.kinds))

    def cut(self, state: State) -> State:
        """The server's end of the stream is gone; one item is still in the socket."""
        i = state.server.owner
        if i < 0:
            return state
        state = with_instance(state, i, replace(state.instances[i], socket=1))
        return replace(state, server=replace(state.server, owner=-1))

    def close(self, state: State, i: int) -> State:
        """The reader closes its stream. Its next run looks at slot and records before it streams."""
        if state.server.owner == i:
            state = replace(state, server=replace(state.server, owner=-1))
        instance = state.instances[i]
        begun = all(j in instance.seen or state.topics[j].born or state.topics[j].record for j in self.kafka)
        # With slot and records there, the look can only say: stream. A slot that goes later, START_REPLICATION misses.
        reader = Reader("start") if state.server.confirmed and begun else Reader()
        sinks = tuple(self.between_epochs(j, sink) for j, sink in enumerate(instance.sinks))
        instance = Instance(reader, instance.paused, seen=instance.seen, sinks=sinks)
        return with_instance(state, i, instance)

    def between_epochs(self, j: int, sink: Sink) -> Sink:
        """What the end of a stream makes of a sink: what it is at, and what waits for it, belongs to an older epoch."""
        report = sink.report if sink.attached else "starting"
        if sink.phase == "idle":
            return Sink(report=report, memory=sink.memory, held=self.held(j, sink))
        inbox = tuple((1, lease, n) for _, lease, n in sink.inbox)
        return replace(sink, inbox=inbox, attached=True, report=report, gate=False, age=1, receipt=0)

    def held(self, j: int, sink: Sink) -> int:
        """A file sink counts from the first Lease of its process, whatever becomes of that."""
        leases = [lease for _, lease, n in sink.inbox if n == LEASE]
        return sink.held or (self.epochs[leases[0]][1] if leases and self.kinds[j] == "file" else 0)

    def end(self, state: State, i: int, process: Instance) -> State:
        """A process is gone, with its stream; in its place comes `process`."""
        return with_instance(self.close(state, i), i, process)

    def refuse(self, state: State, i: int, why: str) -> Step:
        """The whole pipeline is parked."""
        sinks = tuple(Sink(memory=sink.memory) for sink in state.instances[i].sinks)
        parked = Instance(Reader("refused"), sinks=sinks)
        return f"{i}: REFUSED {why}", self.end(state, i, parked)

    # ---- a sink's way out of an epoch

    def blank(self, j: int, sink: Sink) -> Sink:
        """The sink without lease, producers and transaction: it drops the rest of its epoch and waits for a Lease."""
        held, inbox = self.held(j, sink), sink.inbox
        while inbox and (inbox[0][2] != LEASE or inbox[0][0] >= sink.age):
            inbox = inbox[1:]
        return Sink(inbox, sink.attached, sink.report, sink.gate, receipt=sink.receipt, memory=sink.memory, held=held)

    def doubt(self, state: State, i: int, j: int) -> Iterator[State]:
        """Throw the producer away and ask for an epoch newer than the sink's own; who asks too often is detached."""
        instance = state.instances[i]
        sink = instance.sinks[j]
        blank = replace(self.blank(j, sink), report="starting")
        yield self.put(state, i, j, blank, rewind=instance.rewind or not sink.age)
        if not sink.age and self.asks_too_often(instance, j):
            yield self.put(state, i, j, replace(blank, attached=False, inbox=()))

    def asks_too_often(self, instance: Instance, j: int) -> bool:
        """Whether a sink that asks for a newer epoch may be detached instead: one rewind a minute is granted."""
        return not instance.rewind and self.product.dispensable(j, self.places(instance))

    def put(self, state: State, i: int, j: int, sink: Sink, *, rewind: bool | None = None) -> State:
        instance = state.instances[i]
        sinks = (*instance.sinks[:j], sink, *instance.sinks[j + 1 :])
        wanted = instance.rewind if rewind is None else rewind
        return with_instance(state, i, replace(instance, sinks=sinks, rewind=wanted))

    def places(self, instance: Instance) -> tuple[Place, ...]:
        """How each sink of a process takes part in the epoch."""
        return tuple(Place(sink.attached, sink.report, sink.gate) for sink in instance.sinks)
