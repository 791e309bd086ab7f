"""When a batch is closed. Pure.

A batch is what a sink takes at once: it bounds encoding work and what is handed to librdkafka, and says nothing about
transactions. It is closed by count, by WAL bytes or by age (the actor's clock); the actor also closes it whenever
every sink has room, so that a quiet stream does not wait.

Property: the concatenation of the batches is the input; every batch holds at most `max_events` events, and more than
`max_bytes` only if its last item alone brought it there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltaforge.model import Batch, Item, LogicalMessage, Segment, TransactionPart, TransactionRun, Watermark
from deltaforge.runs import cut, first_part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Split = Callable[[TransactionPart, int], tuple[TransactionPart, TransactionPart]]


class BatchPolicy:
    """Collects items of one epoch and gives them back as batches, numbered so that a sink notices a missing one."""

    def __init__(self, max_events: int, max_bytes: int, split: Split) -> None:
        self._max_events, self._max_bytes, self._split = max_events, max_bytes, split
        self.reset(0)

    def reset(self, epoch: int) -> None:
        """A new epoch begins: what was collected belongs to the old one."""
        self.epoch, self._expected, self._number = epoch, 0, 0
        self._overhead = 0
        self._clear()

    def _clear(self) -> None:
        self._items: list[Item] = []
        self._events = self._nbytes = 0

    @property
    def open(self) -> bool:
        """Whether something waits to be sent: items, or bytes without any that must not be held for long."""
        return bool(self._items) or self._overhead > 0

    def follows(self, segment: Segment) -> bool:
        """Whether `segment` comes right after what was taken last."""
        return segment.prev == self._expected

    def add(self, segment: Segment) -> Iterator[Batch]:
        """Take a segment; yield the batches it fills. What remains stays open."""
        self._expected = segment.end
        # Bytes that belong to no item (BEGIN alone, keepalives) weigh in the budget until a batch carries them, and it
        # may be an empty one.
        self._overhead += segment.nbytes - sum(map(_weight, segment.items))
        for item in segment.items:
            yield from self._place(item)

    def _place(self, item: Item) -> Iterator[Batch]:
        rest: Item | None = item
        while isinstance(rest, TransactionRun):
            front, rest = self._front(rest)
            if front is not None:
                yield from self._place_one(front)
            if rest is not None:
                yield self.close()
        if rest is not None:
            yield from self._place_one(rest)

    def _front(self, run: TransactionRun) -> tuple[Item | None, TransactionRun | None]:
        """What of `run` comes next: what there is room for, or a transaction that is too large for any batch."""
        front, rest = cut(run, self._max_events - self._events)
        if front is None and not self._events:
            return first_part(run)
        return front, rest

    def _place_one(self, item: Item) -> Iterator[Batch]:
        while isinstance(item, TransactionPart) and item.events > self._max_events - self._events:
            room = self._max_events - self._events
            if room:
                head, item = self._split(item, room)
                self._push(head)
            yield self.close()
        self._push(item)
        if self._nbytes >= self._max_bytes or self._events >= self._max_events:
            yield self.close()

    def _push(self, item: Item) -> None:
        self._items.append(item)
        self._events += _events(item)
        self._nbytes += _weight(item)

    def close(self) -> Batch:
        """Give back what is open."""
        number, nbytes = self._number, self._nbytes + self._overhead
        batch = Batch(self.epoch, number, number + 1, self._items, self._events, nbytes)
        self._number, self._overhead = number + 1, 0
        self._clear()
        return batch


def _weight(item: Item) -> int:
    return 0 if isinstance(item, Watermark) else item.nbytes


def _events(item: Item) -> int:
    if isinstance(item, Watermark):
        return 0
    return 1 if isinstance(item, LogicalMessage) else item.events
