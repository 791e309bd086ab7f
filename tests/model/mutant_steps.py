"""The protocol's steps in a wrong order, or without one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from deltaforge.model import Watermark
from deltaforge.position import item_position
from tests.model.protocol import Model
from tests.model.state import Instance, Reader, Sink, State, Topic, fenced, replace, with_instance, with_topic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deltaforge.model import Position
    from tests.model.base import Step
    from tests.model.product import Taken


class ConfirmsBeforeCommit(Model):
    """Tells PostgreSQL what was let in, not what is durable."""

    def confirmable(self, state: State, instance: Instance) -> int:
        sink = instance.sinks[0]
        return self.product.accepted_flush(sink.door) if sink.phase == "run" and not sink.age else 0


class ConfirmsKeepalives(Model):
    """Tells PostgreSQL how far it has read, whenever it reads a keepalive."""

    def confirmable(self, state: State, instance: Instance) -> int:
        read = self.source.items[self.stream(instance.lease)[instance.read - 1]] if instance.read else None
        return read.lsn if isinstance(read, Watermark) else 0


class ConfirmsReceived(Model):
    """Tells PostgreSQL what is durable as far as the reader has received it, which no door has looked at yet."""

    def confirmable(self, state: State, instance: Instance) -> int:
        sink = instance.sinks[0]
        if sink.phase != "run" or not instance.read:
            return 0
        item = self.stream(instance.lease)[instance.read - 1]
        received = self.source.flushes[item] or int(item_position(self.source.items[item]).commit_lsn)
        return min(self.product.flush_of(self.product.durable(sink.door)), received)


class CountsOldReceipts(Model):
    """Goes by what a sink has said of an older stream."""

    def between_epochs(self, j: int, sink: Sink) -> Sink:
        return replace(super().between_epochs(j, sink), receipt=sink.receipt)


class AssemblerSkips(Model):
    """Leaves out what was handed on before, in whatever epoch; its items are counted after that."""

    def read(self, state: State, i: int, instance: Instance) -> Iterator[Step]:
        for label, after in super().read(state, i, instance):
            item = self.stream(instance.lease)[instance.read]
            read = after.instances[i]
            place, handed = self.place(item), self.place(instance.handed)
            if place <= handed and not self.source.is_mark(item):
                read = replace(read, sinks=instance.sinks)
            yield label, with_instance(after, i, replace(read, handed=item if place > handed else instance.handed))

    def place(self, item: int) -> Position:
        return item_position(self.source.items[item])

    def through(self, door: int, n: int, item: int) -> Taken:
        return self.product.take(door, self.product.taken(door), item)

    def close(self, state: State, i: int) -> State:
        after = super().close(state, i)
        return with_instance(after, i, replace(after.instances[i], handed=state.instances[i].handed))


class TurnsRound(Model):
    """What waits for a commit is produced last in, first out."""

    def take(self, state: State, i: int, j: int, sink: Sink) -> Iterator[Step]:
        for label, after in super().take(state, i, j, sink):
            found = after.instances[i].sinks[j]
            new = found.kept[len(sink.kept) :]
            yield label, self.put(after, i, j, replace(found, kept=new + sink.kept)) if new and sink.kept else after


class SendsAgain(Model):
    """After a commit of unknown outcome: a new producer, and the same rows once more."""

    def after_doubt(self, state: State, i: int, j: int) -> Iterator[State]:
        topic, sink = fenced(state.topics[j], i), state.instances[i].sinks[j]
        rows, pending = state.topics[j].rows, state.topics[j].pending
        if sink.settle != "ending":
            yield from super().after_doubt(state, i, j)
        elif pending:
            yield with_topic(state, j, replace(topic, state="open", rows=rows, pending=pending, endtxn=True))


class StopsAtTheStableOffset(Model):
    """Reads the checkpoint topic like any committed reader."""

    def readable(self, topic: Topic) -> tuple[bool, int, int] | None:
        return topic.stable or super().readable(topic)


class ReadsBeforeInit(Model):
    opening: ClassVar[tuple[str, ...]] = ("check", "read", "init", "guard")


class LeaseAskedOnce(Model):
    """Does not look at the slot again once the producer is there."""

    def holds(self, state: State, i: int, sink: Sink) -> bool:
        return sink.phase not in ("check", "run") or super().holds(state, i, sink)


class RecordAfterwards(Model):
    """The checkpoint record follows the rows, outside of their transaction."""

    def end_transaction(self, state: State, i: int, j: int, sink: Sink) -> Iterator[Step]:
        for label, after in super().end_transaction(state, i, j, sink):
            ends = after.instances[i].sinks[j].settle == "ending"
            yield label, with_topic(after, j, replace(after.topics[j], pending=0)) if ends else after

    def settle(self, state: State, i: int, j: int, sink: Sink) -> Iterator[Step]:
        if sink.settle != "record":
            yield from super().settle(state, i, j, sink)
            return
        world, confirmed, _ = self.epochs[sink.lease]
        lease = self.product.lease(world, confirmed)
        written = self.product.record(lease, self.product.durable(sink.door), sink.marks)
        after = with_topic(state, j, replace(state.topics[j], record=written))
        yield f"{i}.{j}: writes the record", self.put(after, i, j, replace(sink, settle=""))

    def durable(self, sink: Sink, settle: str = "") -> Sink:
        return super().durable(sink, settle or "record")


class RebuildAsksOnce(Model):
    """Replaces its producer after a slow commit, and does not ask for the slot again."""

    rebuilding: ClassVar[tuple[str, ...]] = ("check", "init")

    def settle(self, state: State, i: int, j: int, sink: Sink) -> Iterator[Step]:
        for label, after in super().settle(state, i, j, sink):
            found = after.instances[i].sinks[j]
            skips = found.settle == "check again"
            yield label, self.put(after, i, j, replace(found, settle="")) if skips else after


class NeverRebuilds(Model):
    """Goes on with the same producer although a copy of its commit may be on its way."""

    def after_slow_commit(self, j: int) -> str:
        return ""


class AsksByLastLease(Model):
    """A stage that lost the Lease it had in hand asks for one newer than the last it has seen."""

    def asks_for_newer(self, lost: int) -> bool:
        return lost >= 0


class BornAgain(Model):
    """Writes `born` although there is one."""

    def born_is_there(self, born: int, record: int) -> bool:
        return False


class OneFirstKey(Model):
    """`creating` and `born` have the same key: the later one is the only one."""

    def first_start(self, state: State, i: int, instance: Instance) -> Step:
        label, after = super().first_start(state, i, instance)
        if instance.reader.phase == "creating":
            j = instance.reader.todo[0]
            after = with_topic(after, j, replace(after.topics[j], born=0))
        return label, after


class AdoptsSilently(Model):
    """Adopts a slot without writing down where it stood."""

    def adopts(self, reader: Reader) -> Reader:
        return Reader("start")


class BornBySlot(Model):
    """Takes `born` for what the slot says now."""

    def guard(self, state: State, i: int, j: int, sink: Sink) -> Iterator[Step]:
        topic = state.topics[j]
        if not topic.record and sink.found:
            _, confirmed, _ = self.epochs[sink.lease]
            sink = replace(sink, found=self.product.read(topic.creating, confirmed, 0))
        yield from super().guard(state, i, j, sink)
