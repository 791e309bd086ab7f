"""Mutants: the protocol with one rule left out. Each has to be caught, by the invariant that the rule is there for.

A mutant is a wrong function in the place of a right one of the product (`patches`), or a model whose steps are wrong
(`model`).
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

from deltaforge import position
from deltaforge.attachment import Attachment
from deltaforge.checkpoint import policy, record, scan
from deltaforge.graph import Graph
from deltaforge.model import LogicalMessage, TransactionPart
from deltaforge.sinks.kafka import grouping, opening
from tests.model import mutant_functions as wrong
from tests.model import mutant_steps as steps
from tests.model.base import Kind, Setup
from tests.model.explore import Verdict, explore
from tests.model.protocol import Model

if TYPE_CHECKING:
    from collections.abc import Iterator


class Mutant(NamedTuple):
    """What is left out, where it is looked for, and the invariant that has to catch it."""

    caught_by: str
    setup: Setup
    patches: tuple[tuple[object, str, object], ...] = ()
    model: type[Model] = Model
    deep: bool = False
    """Takes too long for every change."""

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """With the wrong functions in their places."""
        with ExitStack() as stack:
            for where, name, function in self.patches:
                stack.enter_context(patch.object(where, name, function))
            yield

    def explore(self) -> Verdict:
        """Look for a violation of the invariant."""
        with self.in_place():
            return explore(self.model(self.setup), self.caught_by)


# ---- the table


def _after(*faults: str, wal: str = "small", budget: int = 1, **rest: Any) -> Setup:
    return Setup(wal=wal, faults=frozenset(faults), budget=budget, **rest)


def _function(
    caught_by: str, setup: Setup, where: object, name: str, function: object, *, deep: bool = False
) -> Mutant:
    return Mutant(caught_by, setup, ((where, name, function),), deep=deep)


def _door(caught_by: str, setup: Setup, door: type[position.Door]) -> Mutant:
    return _function(caught_by, setup, position, "Door", door)


def _steps(caught_by: str, setup: Setup, model: type[Model], *, deep: bool = False) -> Mutant:
    return Mutant(caught_by, setup, model=model, deep=deep)


def _two_sinks(mode: str, quorum: int | None = None, *, spared: bool = False, room: int = 1) -> Setup:
    kinds = Kind(), Kind(required=not spared)
    return _after("crash", wal="one", sinks=kinds, mode=mode, quorum=quorum, coarse=True, born=True, room=room)


def _quorum(*faults: str) -> Setup:
    return _after(*faults, wal="one", sinks=(Kind(), Kind()), mode="quorum", quorum=1, coarse=True, born=True)


_REQUIRED = {"sinks": (Kind(), Kind(required=False)), "mode": "required", "coarse": True, "born": True}
_CRASH, _RESTORE = _after("crash"), _after("restore")
_SPLIT, _IDLE = _after("crash", wal="split"), _after("restore", wal="idle")
_STOPPED = {"instances": 2, "born": True, "budget": 2}

MUTANTS: dict[str, Mutant] = {
    # what every rig has to catch
    "confirm before commit": _steps("I9", _CRASH, steps.ConfirmsBeforeCommit),
    "confirm on keepalive while rows wait": _steps("I9", _CRASH, steps.ConfirmsKeepalives),
    "< for <=": _function("I2", _CRASH, position, "_skipped", wrong.skips_one_less),
    "position is an LSN alone": _function("I1", _SPLIT, position, "_skipped", wrong.skips_by_commit),
    "retry after an unknown commit": _steps("I2", _after("doubt"), steps.SendsAgain),
    "stop at the last stable offset": _steps("I2", _after("pin", "crash", budget=2), steps.StopsAtTheStableOffset),
    "checkpoint read before init_transactions": _steps("I2", _after("doubt"), steps.ReadsBeforeInit),
    "skip the slot guard": _function("I1", _after("advance"), opening, "guard", wrong.guards_nothing),
    "no anchor": _door("I6", _RESTORE, wrong.Believing),
    "checkpoint record outside of the transaction": _steps("I2", _CRASH, steps.RecordAfterwards),
    "timeline not checked": _function("I1", _after("carried"), position, "_timeline", wrong.nothing),
    "high watermarks not checked": _function("I1", _after("tail"), opening, "compare_topics", wrong.whatever_is_found),
    "policy counts a sink that is behind": _function("I9", _two_sinks("all"), policy, "combine", wrong.fastest),
    # the door, and that it is the only one to skip
    "the assembler skips, too": _steps("I1", _after("doubt"), steps.AssemblerSkips),
    "a stream has to begin where the durable position ends": _door("I11", _CRASH, wrong.Joining),
    "an anchor without commit time": _function("I1", _RESTORE, position, "anchor_of", wrong.anchor_without_time),
    "changes in a finished range": _door("I1", _IDLE, wrong.Forgiving),
    "confirm what the reader has received": _steps("I1", _RESTORE, steps.ConfirmsReceived),
    "receipts of older streams count": _steps("I1", _RESTORE, steps.CountsOldReceipts),
    "confirm before the stream has reached it": _door("I1", _RESTORE, wrong.Unreached),
    "items need not follow each other": _door("I1", _after("stage", room=2), wrong.Blind),
    "runs are taken as a whole": _door("I2", _after("crash", wal="pair", cuts=2), wrong.Lumping),
    "a message has index 0": _function("I1", _CRASH, LogicalMessage, "last", property(wrong.message_at_index_0)),
    "the COMMIT has no index of its own": _function(
        "I1", _SPLIT, TransactionPart, "last", property(wrong.commit_without_index)
    ),
    "what waits for a commit is turned round": _steps("I3", _after(room=2, kept=4), steps.TurnsRound),
    "Kafka transactions end anywhere": _function("I5", _CRASH, grouping, "Grouping", wrong.Tearing),
    # the record
    "the record leaves the index out": _function("I2", _SPLIT, record, "encode", wrong.without_index),
    "the first record wins": _function("I2", _CRASH, scan, "Newest", wrong.OldestWins),
    "the WAL's end is not looked at": _function("I11", _IDLE, opening, "guard", wrong.guards_not_the_wal_end),
    "topic ids not checked": _function("I11", _after("recreated"), opening, "compare_topics", wrong.whatever_is_found),
    # several sinks
    "a sink that is needed is left behind": _function(
        "I11", _two_sinks("all"), Attachment, "detach_if_dispensable", wrong.always
    ),
    "the guard goes by the slot as it stands now": _function(
        "I14", _two_sinks("required", spared=True, room=3), opening, "guard", wrong.guards_by_the_slot_now
    ),
    "a sink that parks itself leaves the others behind": _function(
        "I11", _quorum("recreated"), Graph, "_bring_back", wrong.nothing
    ),
    "a sink that was left behind counts as parked": _function(
        "I14", _quorum("recreated"), Graph, "_parked", wrong.parked_when_left_behind
    ),
    "a spared sink that lost its record stops the others": _function(
        "I14", _after("forgot", "crash", wal="one", budget=2, **_REQUIRED), policy, "enough", wrong.never
    ),
    "a quorum of one too few": _function("I9", _two_sinks("quorum", 2), policy, "combine", wrong.one_too_few),
    "WAL without events waits for nobody": _function(
        "I14", _two_sinks("required", spared=True), policy, "without_idle_gap", wrong.at_once
    ),
    # commits that come twice, and who holds the slot
    "a copy of EndTxn goes unnoticed": Mutant("I2", _after("late_endtxn")),
    "no new producer after a slow commit": _steps("I2", _after("slow"), steps.NeverRebuilds),
    "the lease is asked for once": _steps(
        "I14", _after("restore", "pause", wal="idle", **_STOPPED), steps.LeaseAskedOnce, deep=True
    ),
    "the guard goes by a slot that is another instance's": Mutant(
        "I14",
        _after("cut", instances=2),
        ((opening, "guard", wrong.guards_by_the_slot_now),),
        steps.LeaseAskedOnce,
    ),
    "a new producer without a second look at the slot": _steps(
        "I2", _after("pause", "slow", wal="pair", **_STOPPED), steps.RebuildAsksOnce, deep=True
    ),
    "who restarts asks by the last Lease": _steps("I11", _after("stage"), steps.AsksByLastLease),
    # the first start
    "one look is enough": _function("I14", _after(wal="one", instances=2), position, "first_start", wrong.looks_once),
    "`born` is written again": _steps(
        "I11", _after("drop", "crash", wal="one", instances=2, budget=2), steps.BornAgain
    ),
    "one key for `creating` and `born`": _steps("I11", _after("drop", wal="one", instances=2), steps.OneFirstKey),
    "a slot is adopted without `born`": _steps("I14", _after("crash", wal="one"), steps.AdoptsSilently),
    "`born` is what the slot says": _steps("I1", _after("advance"), steps.BornBySlot),
}
