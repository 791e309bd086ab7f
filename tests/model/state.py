"""A state of the model: frozen values only, so that equal states are found equal. Interned stand for interned values.

Epochs are counted backwards: age 0 is the reader's current one, 1 any older one. So no state grows with its history.
"""

from __future__ import annotations

import msgspec

replace = msgspec.structs.replace
"""A value with some fields changed; quick, and states are made by the million."""

Entry = tuple[int, int, int]
"""What lies in an inbox: (age, lease, n); n counts the items of that lease's stream, LEASE is the Lease itself."""
LEASE = -1


class Server(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """PostgreSQL and the slot."""

    world: int = 0
    slot: bool = False
    confirmed: int = 0
    """confirmed_flush; 0 = NULL, the slot is still being made."""
    owner: int = -1
    """The instance whose walsender holds the slot."""


class Topic(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """One sink's Kafka: the data topic, the checkpoint topic, and the one transaction of its transactional id."""

    log: tuple[str, ...] = ()
    """Committed rows. For an at-least-once sink whatever was delivered, for a file its lines."""
    creating: bool = False
    born: int = 0
    """flush_lsn of the record `born`; 0 = there is none."""
    record: int = 0
    """Newest committed `running` record."""
    owner: int = -1
    """The instance whose producer has the newest epoch; -1 = all are fenced."""
    state: str = ""
    """"", open, or prepared: to be committed whatever comes."""
    rows: tuple[str, ...] = ()
    pending: int = 0
    """The `running` record in it."""
    endtxn: bool = False
    """An EndTxn(commit) of the newest epoch is on its way."""
    stable: tuple[bool, int, int] | None = None
    """creating, born, record below the open transaction of somebody else; None = there is no such transaction."""
    life: int = 0
    """Which data topic of this name it is."""
    older: tuple[int, int] = (0, 0)
    """Length of the log and record before the last commit."""


class Sink(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """One sink of one process, its inbox included."""

    inbox: tuple[Entry, ...] = ()
    attached: bool = True
    report: str = "starting"
    """What it last said of itself: starting, also when it waits; running; or parked, because its guard or door refused
    and the others go on without it. It says nothing new when an epoch ends, only when it takes the next Lease."""
    gate: bool = False
    phase: str = "idle"
    """idle: it waits for a Lease; check, init, read, guard: it opens; run."""
    age: int = 0
    lease: int = 0
    found: int = 0
    """What it read of the checkpoint topic."""
    door: int = 0
    last: int = 0
    """Item the door took last."""
    open: bool = False
    """Rows have been let in since the last Kafka transaction ended."""
    settle: str = ""
    """The commit beside it: "", ending, then for a rebuild check, init, check again."""
    progress: int = 0
    """What the record under way says."""
    kept: tuple[str, ...] = ()
    """Rows that wait for the commit in flight."""
    marks: tuple[int, int] = (0, 0)
    """The data topic as last looked at: which one, and its end."""
    receipt: int = 0
    """For the current epoch; 0 = none, or nothing to confirm."""
    memory: int = 0
    """Durable progress as far as the object of a file sink remembers, and what the slot may stand at without a gap."""
    held: int = 0


class Reader(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """What the reader is about to do, and what it knows for that."""

    phase: str = "look"
    """look, peek, creating, create, made, born, write: the first start. Then start, lease, stream. refused: the end."""
    twice: bool = False
    slot: bool = False
    """Whether there was a slot when it looked, and where that stood."""
    lsn: int = 0
    todo: tuple[int, ...] = ()
    """Sinks whose checkpoint topics still have to be written to."""


class Instance(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """One process."""

    reader: Reader = Reader()
    paused: bool = False
    lease: int = 0
    read: int = 0
    """Items read from the current stream."""
    socket: int = 0
    """Items still readable after the server's end is gone."""
    rewind: bool = False
    """Somebody wants an epoch newer than the current one."""
    seen: tuple[int, ...] = ()
    """Spared sinks whose topics had a position once: this process asks them no more before a stream."""
    handed: int = 0
    """For a mutant: the item handed on last, over all epochs."""
    sinks: tuple[Sink, ...] = ()


class Damage(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """What no program can make good again."""

    kind: str = ""
    sink: int = -1
    """Whose Kafka; -1 = the server."""
    confirmed: int = 0
    """Where the slot stood after it, or may at most be moved to by what was known before."""


class State(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    server: Server
    topics: tuple[Topic, ...]
    instances: tuple[Instance, ...]
    left: int
    """Faults still to spend."""
    damage: Damage = Damage()


def with_topic(state: State, j: int, topic: Topic) -> State:
    topics = state.topics
    return replace(state, topics=(*topics[:j], topic, *topics[j + 1 :]))


def with_instance(state: State, i: int, instance: Instance) -> State:
    instances = state.instances
    return replace(state, instances=(*instances[:i], instance, *instances[i + 1 :]))


def with_sink(state: State, i: int, j: int, sink: Sink) -> State:
    instance = state.instances[i]
    sinks = instance.sinks
    return with_instance(state, i, replace(instance, sinks=(*sinks[:j], sink, *sinks[j + 1 :])))


# ---- Kafka's transactions


def committed(topic: Topic) -> Topic:
    """Markers are written: rows and record become visible together."""
    return replace(
        topic, log=topic.log + topic.rows, record=topic.pending or topic.record, rows=(), pending=0, state=""
    )


def fenced(topic: Topic, owner: int) -> Topic:
    """init_transactions: complete a prepared commit, abort an open transaction, fence whoever was before."""
    if topic.state == "prepared":
        topic = committed(topic)
    return replace(topic, owner=owner, state="", rows=(), pending=0, endtxn=False)


def visible(topic: Topic) -> tuple[bool, int, int]:
    """What a reader that stops at the last stable offset sees of the checkpoint topic."""
    return topic.stable or (topic.creating, topic.born, topic.record)
