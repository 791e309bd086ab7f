"""Twelve bugs that delivery can have, each as a change of the product's text.

A text that is not there, or there twice, is an error of the test: whoever changes the product changes the mutant.
"""

from __future__ import annotations

from typing import NamedTuple


class Edit(NamedTuple):
    """One replacement."""

    path: str
    old: str
    new: str


class Mutant(NamedTuple):
    """One bug."""

    name: str
    what: str
    invariant: str
    """The one that it has to be caught by."""
    hunt: str
    """Name of a function of hunts.py."""
    edits: tuple[Edit, ...]


_EPOCH = "deltaforge/sinks/kafka/epoch.py"
_SESSION = "deltaforge/sinks/kafka/session.py"
_POSITION = "deltaforge/position.py"
_ACTOR = "deltaforge/sinks/kafka/actor.py"
_OPENING = "deltaforge/sinks/kafka/opening.py"
_ALREADY = "return min(max(start.index + 1 - part.first_index, 0), part.events)"

MUTANTS = (
    Mutant(
        "confirm-before-commit",
        "PostgreSQL is told what was taken in, not what is durable",
        "I9",
        "kills",
        (Edit(_EPOCH, "door.durable.position, door.confirmable,", "door.durable.position, door.accepted.flush_lsn,"),),
    ),
    Mutant(
        "less-for-less-or-equal",
        "the event that the checkpoint stands on is taken for new",
        "I2",
        "kills_of_split",
        (Edit(_POSITION, _ALREADY, "return min(max(start.index - part.first_index, 0), part.events)"),),
    ),
    Mutant(
        "lsn-only",
        "a transaction of which a part is durable is taken for durable as a whole",
        "I1",
        "kills_of_split",
        (Edit(_POSITION, _ALREADY, "return part.events"),),
    ),
    Mutant(
        "retry-after-unknown-commit",
        "after a commit without an answer the sink goes on from what it remembers instead of what Kafka holds",
        "I2",
        "lost_answers",
        (
            Edit(
                _EPOCH,
                "Door(lease, opened.progress)",
                "Door(lease, _REMEMBERED.get(wiring.config.id, opened.progress))",
            ),
            Edit(_EPOCH, "class LostOnTheWay(", "_REMEMBERED: dict[str, Progress] = {}\n\n\nclass LostOnTheWay("),
            Edit(
                _EPOCH,
                "        self._door.committed(progress)\n",
                "        self._door.committed(progress)\n        _REMEMBERED[self._w.config.id] = progress\n",
            ),
        ),
    ),
    Mutant(
        "stop-at-lso",
        "the checkpoint topic is read to where committed readers come, not to its end",
        "I2",
        "foreign_transaction",
        (
            Edit(
                "deltaforge/checkpoint/topic.py",
                "return await self._newest(stable=False, wait_s=wait_s, held_up=held_up)",
                "return await self._newest(stable=True, wait_s=wait_s, held_up=held_up)",
            ),
        ),
    ),
    Mutant(
        "confirm-on-keepalive",
        "a status update confirms what was received",
        "I9",
        "kills",
        (
            Edit(
                "deltaforge/source/stream.py",
                "flushed = confirm.lsn if confirm.epoch == self._number else Lsn(0)",
                "flushed = self._received if confirm.epoch == self._number else Lsn(0)",
            ),
        ),
    ),
    Mutant(
        "read-before-init",
        "the checkpoint is read before the producer is initialised, which decides the last commit",
        "I2",
        "late_commit",
        (
            Edit(
                _ACTOR,
                "                    await session.init()\n",
                "                    w.early.append(await w.checkpoint.peek())\n"
                "                    await session.init()\n",
            ),
            Edit(
                "deltaforge/sinks/kafka/wiring.py",
                "    heartbeat: Heartbeat | None = None\n",
                "    heartbeat: Heartbeat | None = None\n    early: object = ()\n\n"
                "    def __post_init__(self) -> None:\n"
                "        object.__setattr__(self, 'early', self.checkpoint.__dict__.setdefault('early', []))\n",
            ),
            Edit(
                _OPENING,
                "    stored = await checkpoint.read(wait_s=wait_s, held_up=held_up)\n",
                "    stored = checkpoint.early[-1]\n",
            ),
        ),
    ),
    Mutant(
        "no-slot-guard",
        "a slot that stands past the checkpoint is streamed from",
        "I14",
        "advanced_slot",
        (Edit(_POSITION, "        raise gap(progress.flush_lsn, lease.confirmed_flush, lease.slot)\n", ""),),
    ),
    Mutant(
        "toast-as-null",
        "a value that was not sent is written as null",
        "I6",
        "calm",
        (
            Edit(
                "deltaforge/envelopes/plan.py",
                "return column.rendering.unavailable if field is UNSENT",
                'return "null" if field is UNSENT',
            ),
        ),
    ),
    Mutant(
        "key-change-as-update",
        "a change of the key is written as an update under the new key",
        "I6",
        "calm",
        (
            Edit(
                "deltaforge/envelopes/changes.py",
                "    if plan.key(old) == plan.key(new):\n",
                "    if True:\n",
            ),
        ),
    ),
    Mutant(
        "undone-rows",
        "rows that the source has undone are written: pgoutput sends none, so some are made up",
        "I4",
        "calm",
        (
            Edit(
                "deltaforge/envelopes/debezium.py",
                "        return self._lanes.get(message[25:33])\n",
                "        return None if message[-1:].isdigit() else self._lanes.get(message[25:33])\n",
            ),
            Edit(
                "deltaforge/envelopes/debezium.py",
                "        if plan.relation.selected:\n            work.change(plan, message, index, self._origin)\n",
                "        if plan.relation.selected:\n            work.change(plan, message, index, self._origin)\n"
                "            if message[25:26] in b'IU' and message[-1:].isdigit() and not index % 10:\n"
                "                other = message[:-1] + bytes([message[-1] ^ 1])\n"
                "                work.change(plan, other, index, self._origin)\n",
            ),
        ),
    ),
    Mutant(
        "checkpoint-outside",
        "rows and checkpoint are committed one after the other",
        "I2",
        "kill_between",
        (
            Edit(_SESSION, "        await self._ledger.produce(line, [0])\n", ""),
            Edit(
                _SESSION,
                "        self._begun = False\n        self._answered += 1\n"
                '        await failpoint_async("kafka.after_commit")\n',
                '        await failpoint_async("kafka.after_commit")\n        self._ledger.begin()\n'
                "        await self._ledger.produce(line, [0])\n        await self._ledger.flush(deadline)\n"
                "        await self._ledger.commit(limit)\n        self._begun = False\n        self._answered += 1\n",
            ),
        ),
    ),
)
