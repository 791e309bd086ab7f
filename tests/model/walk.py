"""Long random walks through the model: histories, sinks and faults that nobody could list.

Hypothesis draws a history, a pipeline and then steps; every invariant is checked after each of them. Whenever it calls
for quiet, no fault happens any more, everybody gets a turn, and the run has to come to its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.model.base import Kind, Setup
from tests.model.faults import DAMAGE, PROCESS
from tests.model.histories import BORN, Entry, Keepalive, Message, Source, Transaction, World
from tests.model.protocol import Model

if TYPE_CHECKING:
    from tests.model.state import State

QUIET_STEPS = 3000
"""More than any run needs to its end once the faults are over."""


class _Writer:
    """Draws the entries of one world, from some LSN on."""

    def __init__(self, draw: st.DrawFn, name: str, lsn: int, xid: int) -> None:
        self._draw, self._name, self.lsn, self.xid = draw, name, lsn, xid

    def entries(self, count: int) -> list[Entry]:
        return [self._entry(number) for number in range(count)]

    def _entry(self, number: int) -> Entry:
        kind = self._draw(st.sampled_from(("transaction", "transaction", "transaction", "message", "keepalive")))
        lsn = self.lsn + self._draw(st.integers(0, 3))
        if kind == "message":
            self.lsn = lsn + 1
            return Message(f"{self._name}{number}", self.lsn)
        if kind == "keepalive":
            self.lsn = lsn
            return Keepalive(lsn)
        pieces = self._draw(st.lists(st.integers(0, 2), min_size=1, max_size=3))
        self.xid, self.lsn = self.xid + 1, lsn + 2
        return Transaction(f"{self._name}{number}", self.xid, lsn, lsn + 2, tuple(pieces), self._draw(st.booleans()))


@st.composite
def sources(draw: st.DrawFn) -> Source:
    """An original, a restored copy and a promoted standby, cut into chunks in three ways."""
    original = _Writer(draw, "T", BORN + 3, 1)
    before: list[tuple[int, int]] = []
    entries: list[Entry] = []
    for number in range(draw(st.integers(1, 6))):
        before.append((original.lsn, original.xid))
        entries.append(original._entry(number))
    before.append((original.lsn, original.xid))
    worlds = [World((*entries, Keepalive(original.lsn + 2)))]
    for name, timeline in ("X", 1), ("G", 2):
        shared = draw(st.integers(0, len(entries)))
        lsn, xid = before[shared]
        fork = lsn + draw(st.integers(0, 2)) if timeline == 2 else lsn
        writer = _Writer(draw, name, fork, xid)
        own = writer.entries(draw(st.integers(1, 3)))
        switches = ((1, fork),) if timeline == 2 else ()
        # It goes on writing, past where the original was: only that shows a file sink which history it is.
        end = Keepalive(max(writer.lsn, worlds[0].end) + 2)
        worlds.append(World((*entries[:shared], *own, end), timeline, switches, fork))
    bits = draw(st.lists(st.booleans(), min_size=1, max_size=7))
    return Source(tuple(worlds), lambda cut, at: bits[(at + cut) * (cut + 1) % len(bits)])


@st.composite
def setups(draw: st.DrawFn) -> Setup:
    """A pipeline of one or two processes."""
    instances = draw(st.integers(1, 2))
    # Two processes have two files; the model has one.
    known = ("exact", "exact", "least", "file") if instances == 1 else ("exact", "exact", "least")
    kinds = draw(st.lists(st.sampled_from(known).map(Kind), min_size=1, max_size=3))
    # A file that the policy can do without has no promise over restarts of the process.
    kinds = [kind._replace(required=kind.kind == "file" or draw(st.booleans())) for kind in kinds]
    kinds = [kinds[0]._replace(required=True), *kinds[1:]]
    mode = draw(st.sampled_from(("all", "required", "quorum")))
    if mode == "quorum":
        kinds = [Kind("exact") if kind.kind == "file" else kind for kind in kinds]
    faults = PROCESS | {"flow", "pause", "slow", "pin"}
    if draw(st.booleans()):
        damage = DAMAGE | {"failover"} if all(kind.kind == "exact" for kind in kinds) else frozenset({"restore"})
        faults |= damage
    return Setup(
        "",
        instances,
        tuple(kinds),
        mode,
        draw(st.integers(1, len(kinds))) if mode == "quorum" else None,
        frozenset(faults),
        budget=10**6,
        room=draw(st.integers(1, 3)),
        kept=3,
        cuts=3,
        born=draw(st.booleans()),
    )


class Walk(RuleBasedStateMachine):
    """One run, step by step."""

    taken = 0
    """Steps of all runs of this process."""

    model: Model
    state: State

    @initialize(setup=setups(), source=sources())
    def begin(self, setup: Setup, source: Source) -> None:
        note(f"{setup}\n{source.worlds}")
        self.model = Model(setup, source)
        self.state = self.model.first()

    @rule(choices=st.lists(st.integers(0, 99), min_size=10, max_size=60))
    def go_on(self, choices: list[int]) -> None:
        """Something that may happen, happens."""
        for choice in choices:
            ways = list(self.model.steps(self.state))
            if ways:
                self._take(*ways[choice % len(ways)])

    @rule(choice=st.integers(0, 999))
    def fail(self, choice: int) -> None:
        """Something goes wrong."""
        ways = list(self.model.faults(self.state))
        if ways:
            self._take(*ways[choice % len(ways)])

    @rule()
    def be_quiet(self) -> None:
        """Nothing goes wrong any more: everything is delivered, or refused with a reason."""
        turns: dict[str, int] = {}
        for turn in range(QUIET_STEPS):
            if self.model.goal(self.state):
                return
            steps = list(self.model.steps(self.state))
            # Where nothing else happens, time passes.
            ways = [way for way in steps if not way[0].startswith("MAYBE")] or steps
            assert ways, "I11 nothing can happen any more"
            label, after = min(ways, key=lambda way: turns.get(_who(way[0]), -1))
            turns[_who(label)] = turn
            self._take(label, after)
        raise AssertionError("I11 never comes to an end")

    def teardown(self) -> None:
        if hasattr(self, "state"):
            self.be_quiet()

    def _take(self, label: str, after: State) -> None:
        note(label)
        type(self).taken += 1
        self.state = after
        problem = self.model.violation(after)
        assert not problem, problem


def _who(label: str) -> str:
    """Who does what: everybody gets a turn with each of his steps."""
    return " ".join(label.split()[:4])
