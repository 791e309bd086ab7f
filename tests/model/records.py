"""The product's values and records as the model names them: Lease, checkpoint records and their bytes, slot state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltaforge.checkpoint import record, scan
from deltaforge.model import Checkpoint, Lease, Lsn, Progress, SlotState, Stored, TopicMark
from deltaforge.sinks.kafka.opening import Identity
from tests.model.histories import SYSTEM
from tests.model.interning import Interned, Memo

if TYPE_CHECKING:
    from deltaforge.model import Position
    from tests.model.histories import Source

DATABASE, SLOT, TOPIC, PID, EPOCH = "shop", "slot", "t", 99, 1
IDENTITY = Identity("publication", "options", "instance")
_IDENTITY = (IDENTITY.publication, IDENTITY.options, IDENTITY.instance)


class Records(Memo):
    """Interned for what is read and written."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.source = source
        self.leases: Interned[Lease] = Interned()
        self.progresses: Interned[Progress] = Interned()
        self.records: Interned[Checkpoint] = Interned()
        self.found: Interned[Stored] = Interned()

    def slot(self, world: int, exists: bool, confirmed: int, *, ours: bool = False) -> SlotState:
        """The control session's answer."""
        end = Lsn(self.source.worlds[world].end)
        return SlotState(
            exists, PID if ours else 0, Lsn(confirmed), Lsn(0), "reserved" if exists else "", end, SYSTEM, DATABASE, 0
        )

    def lease(self, world: int, confirmed: int) -> int:
        """What the reader publishes."""
        history = self.source.worlds[world]
        return self.leases.of(
            Lease(EPOCH, PID, SYSTEM, history.timeline, history.history(), DATABASE, SLOT, Lsn(confirmed))
        )

    def read(self, creating: bool, born: int, running: int) -> int:
        """The records of a checkpoint topic, written as bytes, found as on a start, and decoded."""

        def ask() -> int:
            stored = self._round_trip(self._stored(creating, born, running))
            return self.found.of(stored)

        return self.once(("read", creating, born, running), ask)

    def _stored(self, creating: bool, born: int, running: int) -> Stored:
        def first(state: str, flush: int) -> Checkpoint:
            return Checkpoint(state, SYSTEM, 1, DATABASE, SLOT, *_IDENTITY, 0, Progress(flush_lsn=Lsn(flush)))

        return Stored(
            first("creating", 0) if creating else None,
            first("born", born) if born else None,
            self.records[running] if running else None,
        )

    def _round_trip(self, stored: Stored) -> Stored:
        """Records lie so far apart that the search needs more than one window."""
        log = [
            scan.Found(at * 3 * scan.FIRST_WINDOW, *record.encode(found))
            for at, found in enumerate((stored.creating, stored.born, stored.running))
            if found is not None
        ]
        newest = scan.Newest("checkpoints")
        for start, stop in scan.windows(0, log[-1].offset + 1 if log else 0):
            for found in log:
                if start <= found.offset < stop:
                    newest.add(found)
            if newest.close_window():
                break
        return newest.stored()

    def record(self, lease: int, progress: int, marks: tuple[int, int]) -> int:
        """The `running` record that goes with a Kafka transaction."""

        def ask() -> int:
            held = self.leases[lease]
            return self.records.of(
                Checkpoint(
                    "running", held.system_id, held.timeline, held.database, held.slot, *_IDENTITY, 0,
                    self.progresses[progress], (mark_of(marks),),
                )
            )  # fmt: skip

        return self.once(("record", lease, progress, marks), ask)

    def flush(self, record: int) -> int:
        """What a record allows to be confirmed."""
        return self.records[record].progress.flush_lsn

    def position(self, record: int) -> Position:
        """Up to which event a record covers everything."""
        return self.records[record].progress.position

    def reached(self, record: int) -> int:
        """How far a record reaches into the server's history."""
        progress = self.records[record].progress
        return max(progress.flush_lsn, progress.position.commit_lsn)

    def flush_of(self, progress: int) -> int:
        """What may be confirmed once a progress is durable."""
        return self.progresses[progress].flush_lsn

    def recorded_end(self, record: int) -> int:
        """The data topic's end as a record has it."""
        return self.records[record].topics[0].high_watermarks[0]

    def said(self, progress: int) -> str:
        """A progress for the eye."""

        def ask() -> str:
            found = self.progresses[progress]
            at = found.position
            return f"position {int(at.commit_lsn)}.{at.index}, flush_lsn {int(found.flush_lsn)}"

        return self.once(("said", progress), ask)


def mark_of(marks: tuple[int, int]) -> TopicMark:
    """A data topic as a record has it; `marks`: which topic of the name it is, and its end."""
    life, end = marks
    return TopicMark(TOPIC, f"id{life}", (end,))
