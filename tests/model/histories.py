"""What the server's WAL holds: worlds to stream from, as pgoutput bytes that the product's assembler makes items of.

A world is one history of the server. World 0 is the original; the others are what a restore or a failover puts in its
place: the same beginning, then transactions of its own. Every row has a name (`T2.0`, `M`; `T2.end` for a COMMIT that
is recorded), another one in every world, so that a topic is a list of names.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from deltaforge.model import (
    Item,
    LogicalMessage,
    Lsn,
    TimelineSwitch,
    TransactionPart,
    TransactionRun,
    WalChunk,
    Watermark,
)
from deltaforge.position import item_flush
from deltaforge.runs import parts
from deltaforge.transactions.assembler import Assembler
from tests.support import pgoutput_bytes as wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deltaforge.model import Position
    from deltaforge.position import Passed

SYSTEM = "7001"
BORN = 5
"""Where the slot begins; everything in every world comes after it."""


class Transaction(NamedTuple):
    """A committed transaction. `pieces`: its events as a finely cut stream brings them; a last 0 = COMMIT alone."""

    name: str
    xid: int
    """A restored server counts on from where it was, so another world may use it again."""
    commit: int
    end: int
    pieces: tuple[int, ...]
    splits: bool = False
    """Whether the sink may split it over several Kafka transactions."""

    @property
    def time_us(self) -> int:
        """Commit time: its own for every transaction of all worlds."""
        return wire.PG_EPOCH_US + int.from_bytes(self.name.encode(), "little")

    def rows(self) -> tuple[str, ...]:
        """Its records; with transaction metadata the COMMIT makes one, too."""
        return (*(f"{self.name}.{n}" for n in range(sum(self.pieces))), f"{self.name}.end")

    def positions(self) -> list[tuple[int, int]]:
        """Commit LSN and index of each row; the COMMIT's index is the number of events."""
        return [(self.commit, n) for n in range(sum(self.pieces) + 1)]


class Message(NamedTuple):
    """A non-transactional logical message."""

    name: str
    lsn: int

    def rows(self) -> tuple[str, ...]:
        return (self.name,)

    def positions(self) -> list[tuple[int, int]]:
        """It comes before a transaction whose commit LSN it shares."""
        return [(self.lsn, -1)]


class Keepalive(NamedTuple):
    """The server says how far it has read."""

    lsn: int

    def rows(self) -> tuple[str, ...]:
        return ()

    def positions(self) -> list[tuple[int, int]]:
        return []


Entry = Transaction | Message | Keepalive


class World(NamedTuple):
    """One history of the server, up to its WAL's end."""

    entries: tuple[Entry, ...]
    timeline: int = 1
    switches: tuple[tuple[int, int], ...] = ()
    """(timeline, end) of each timeline before."""
    fork: int = 0
    """Up to where it is the same as the original."""

    @property
    def end(self) -> int:
        last = self.entries[-1]
        return last.end if isinstance(last, Transaction) else last.lsn

    def rows(self) -> tuple[str, ...]:
        return tuple(row for entry in self.entries for row in entry.rows())

    def history(self) -> tuple[TimelineSwitch, ...]:
        return tuple(TimelineSwitch(timeline, Lsn(end)) for timeline, end in self.switches)


def sent_again(entry: Entry, confirmed: int) -> bool:
    """What PostgreSQL does on START_REPLICATION: a commit at confirmed_flush is sent again, a message there is not."""
    return entry.commit >= confirmed if isinstance(entry, Transaction) else entry.lsn > confirmed


def pieces(entry: Entry) -> Iterator[list[bytes]]:
    """The messages of one entry, cut as finely as its `pieces` say."""
    if isinstance(entry, Keepalive):
        yield [wire.keepalive(entry.lsn)]
    elif isinstance(entry, Message):
        yield [wire.message("p", entry.name.encode(), entry.lsn, transactional=False)]
    else:
        messages = [wire.begin(entry.commit, entry.time_us, entry.xid)]
        for number, events in enumerate(entry.pieces, 1):
            messages += [wire.insert(1, ["v"], entry.commit)] * events
            if number == len(entry.pieces):
                messages.append(wire.commit(entry.commit, entry.end, entry.time_us))
            yield messages
            messages = []


def by_cut(cut: int, at: int) -> bool:
    """Whether a chunk ends after piece `at`: with cut 0 after every piece, else only at the end of the stream."""
    return cut == 0


class Source:
    """All worlds of a run, and their streams as numbered items. `ends`: where chunks end in each way of cutting."""

    def __init__(self, worlds: tuple[World, ...], ends: Callable[[int, int], bool] = by_cut) -> None:
        self.worlds, self._ends = worlds, ends
        self.items: list[Item] = [Watermark(Lsn(0))]
        """By number; 0 is no item."""
        self.flushes = [0]
        """What may be confirmed once an item is durable; 0 in mid-transaction."""
        self.names = [""]
        self._numbers: dict[object, int] = {}
        self._streams: dict[tuple[int, int, int], tuple[int, ...]] = {}
        self._transactions = {e.time_us: e for world in worlds for e in world.entries if isinstance(e, Transaction)}
        self.wanted = [world.rows() for world in worlds]
        self._positions = [[at for entry in world.entries for at in entry.positions()] for world in worlds]
        self.ends = [frozenset(_complete(world)) for world in worlds]
        """How many rows of a world a topic may hold: whole transactions, and whatever of one that may be split."""

    def stream(self, world: int, confirmed: int, cut: int) -> tuple[int, ...]:
        """The items a stream from `confirmed` brings."""
        key = world, confirmed, cut
        if key not in self._streams:
            assembler, found, at = Assembler(), list[Item](), 0
            for messages in self._chunks(world, confirmed, cut):
                found += assembler.feed(WalChunk(1, at, at + len(messages), messages, (), 1)).items
                at += len(messages)
            self._streams[key] = tuple(map(self._number, found))
        return self._streams[key]

    def _chunks(self, world: int, confirmed: int, cut: int) -> Iterator[list[bytes]]:
        sent = (entry for entry in self.worlds[world].entries if sent_again(entry, confirmed))
        chunk: list[bytes] = []
        for at, messages in enumerate(messages for entry in sent for messages in pieces(entry)):
            chunk += messages
            if self._ends(cut, at):
                yield chunk
                chunk = []
        yield chunk

    def _number(self, item: Item) -> int:
        """Equal for items that no decision of the product tells apart."""
        key: tuple[object, ...] = (type(item), item_flush(item))
        if isinstance(item, TransactionPart):
            key += (item.commit_time_us, item.first_index, item.events)
        elif isinstance(item, TransactionRun):
            key += (item.commit_time_us, item.transactions)
        elif isinstance(item, LogicalMessage):
            key += (item.message,)
        if key not in self._numbers:
            self._numbers[key] = len(self.items)
            self.items.append(item)
            self.flushes.append(int(item_flush(item)))
            self.names.append(self._name(item))
        return self._numbers[key]

    def _name(self, item: Item) -> str:
        """For the eye."""
        if isinstance(item, Watermark):
            return f"watermark {int(item.lsn)}"
        what = {TransactionRun: "run to", TransactionPart: "part of", LogicalMessage: "message at"}[type(item)]
        return f"{what} {int(item.last.commit_lsn)}.{item.last.index}"

    def rows(self, item: Item, passed: Passed) -> tuple[str, ...]:
        """What a sink writes of `item`."""
        if isinstance(item, TransactionRun):
            return tuple(row for part in parts(item) for row in self._transactions[part.commit_time_us].rows())
        if isinstance(item, TransactionPart):
            rows = self._transactions[item.commit_time_us].rows()
            events = rows[item.first_index + passed.skip : item.first_index + item.events]
            return events + (rows[-1:] if passed.ends else ())
        if isinstance(item, LogicalMessage) and passed.events:
            # After header, flags and LSN: prefix, NUL, four bytes of length, content.
            return (item.message[item.message.index(b"\0", 35) + 5 :].decode(),)
        return ()

    def covered(self, world: int, position: Position) -> int:
        """How many rows of a world lie at or below a position."""
        return bisect_right(self._positions[world], (position.commit_lsn, position.index))

    def is_mark(self, item: int) -> bool:
        """Whether an item is a watermark."""
        return isinstance(self.items[item], Watermark)

    def splits(self, item: int) -> bool:
        """Whether a sink may end its Kafka transaction after this item although the source transaction goes on."""
        found = self.items[item]
        return isinstance(found, TransactionPart) and self._transactions[found.commit_time_us].splits


def _complete(world: World) -> Iterator[int]:
    at = 0
    yield at
    for entry in world.entries:
        rows = len(entry.rows())
        if isinstance(entry, Transaction) and entry.splits:
            yield from range(at, at + rows)
        at += rows
        yield at


# ---- the worlds of the exhaustive search

T1 = Transaction("T1", 1, 10, 12, (1,))
T2 = Transaction("T2", 2, 20, 22, (1, 1))
F = Transaction("F", 3, 30, 32, (0,))  # fully filtered
S = Transaction("S", 4, 40, 43, (1, 1, 0), splits=True)
M = Message("M", 20)  # its LSN is the next transaction's commit LSN
X, Y = Transaction("X", 2, 13, 14, (2,)), Transaction("Y", 2, 20, 23, (2,))
G, H = Transaction("G", 3, 30, 33, (1,)), Transaction("H", 4, 50, 53, (1,))
IDLE, END = Keepalive(15), Keepalive(45)


def copy_of(*shared: Entry) -> World:
    """An older copy of the server that was restored and has written on since."""
    return World((*shared, X, IDLE, Y, END), fork=12)


def successor_of(*shared: Entry) -> World:
    """A standby that was promoted at 25, and has written on since."""
    return World((*shared, G, H, Keepalive(55)), 2, ((1, 25),), fork=25)


WORLDS = {
    "full": (World((T1, IDLE, M, T2, F, S, END)), copy_of(T1), successor_of(T1, IDLE, M, T2)),
    "small": (World((T1, M, T2, END)), copy_of(T1), successor_of(T1, M, T2)),
    "split": (World((T1, S, END)), copy_of(T1), successor_of(T1)),
    "idle": (World((T1, IDLE, M)), World((T1, X, IDLE), fork=12), successor_of(T1, IDLE, M)),
    "pair": (World((T1, T2, END)), copy_of(T1), successor_of(T1, T2)),
    "one": (World((T1, END)), copy_of(T1), successor_of(T1)),
}
