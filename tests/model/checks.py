"""What has to hold in every state, and where a run may end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.faults import Faults
from tests.model.histories import BORN, Message, Transaction
from tests.model.state import State, Topic, committed

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from tests.model.base import Setup
    from tests.model.histories import Entry, Source

HELD_BACK = 1_000_000
"""Above every LSN: a sink whose durable position nobody can ask for."""


class Checks(Faults):
    """The invariants."""

    def __init__(self, setup: Setup, source: Source | None = None) -> None:
        super().__init__(setup, source)
        self._judged: dict[Hashable, str] = {}

    def violation(self, state: State) -> str:
        """The rule this state breaks, with its name first, or ''."""
        server, topics, damage = state.server, state.topics, state.damage
        spent = state.left < self.setup.budget
        key = server.world, server.confirmed, damage, spent, topics
        if key not in self._judged:
            self._judged[key] = self.data_problem(state, _as_good_as_visible(topics))
        return self._judged[key] or self.halt_problems(state)

    def data_problem(self, state: State, topics: list[Topic]) -> str:
        for j, topic in enumerate(topics):
            if problem := self.log_problem(state, j, topic):
                return problem
        return self.slot_problem(state, topics)

    def halt_problems(self, state: State) -> str:
        topics = _as_good_as_visible(state.topics)
        for i, instance in enumerate(state.instances):
            if instance.reader.phase == "refused" and (problem := self.halt_problem(state, topics)):
                return problem
            # Of a stream that is over the next Lease will judge; one that was parked in this epoch has passed its gate.
            if state.server.owner == i and not state.damage.kind:
                _, began, _ = self.epochs[instance.lease]
                for j, sink in enumerate(instance.sinks):
                    if sink.report == "parked" and sink.gate and not self.lacks(state, j, topics[j], began):
                        return "I14 a sink is parked although it lacked nothing"
        return ""

    # ---- the log

    def log_problem(self, state: State, j: int, topic: Topic) -> str:
        """I1-I6 and I8 of one sink."""
        log, damage = topic.log, state.damage
        harmed = damage.kind if damage.sink == j else ""
        repeats = self.kinds[j] != "exact" and state.left < self.setup.budget
        if repeats:
            # At least once: after a fault rows may come again.
            if self.setup.instances == 1 and not state.server.world and (problem := self.repeat_problem(j, log)):
                return problem
            log = tuple(dict.fromkeys(log))
        if repeats and state.server.world:
            # Rows that no checkpoint covered may be of the history that is gone.
            return self.mixture_problem(state, j, log)
        if harmed == "recreated":
            # What was lost is lost; it has to be noticed, which `goal` sees to. Until then what comes is in order.
            return "" if _is_piece(log, self.source.wanted[0]) else f"I3 rows missing in a new topic of {j}: {log}"
        worlds = {0, state.server.world}
        fits = [world for world in worlds if _begins(log, self.source.wanted[world])]
        if not fits:
            return f"{self.fault_of(log, worlds)} in {j}: {topic.log}"
        if self.kinds[j] == "exact" and harmed != "tail" and not any(len(log) in self.source.ends[w] for w in fits):
            return f"I5 torn transaction in {j}: {log}"
        return "" if harmed in ("tail", "forgot") else self.record_problem(j, topic, log, fits)

    def repeat_problem(self, j: int, log: tuple[str, ...]) -> str:
        """Whoever sends again goes back, and from there on in order; a stopped instance is not so bound."""
        places = {row: place for place, row in enumerate(self.source.wanted[0])}
        at = [places.get(row, -1) for row in log]
        leaps = [row for row, before, place in zip(log[1:], at, at[1:], strict=False) if place > before + 1]
        return f"I3 {leaps[0]} sent before what precedes it, in {j}: {log}" if leaps else ""

    def mixture_problem(self, state: State, j: int, log: tuple[str, ...]) -> str:
        """Of each history a beginning, and nothing else."""
        both = [self.source.wanted[0], self.source.wanted[state.server.world]]
        known = set(log) <= {row for wanted in both for row in wanted}
        if known and all(_begins(tuple(row for row in log if row in wanted), wanted) for wanted in both):
            return ""
        return f"I1 lost, or out of order, after another history began, in {j}: {log}"

    def record_problem(self, j: int, topic: Topic, log: tuple[str, ...], fits: Sequence[int]) -> str:
        """I8: a checkpoint covers the rows that were committed, neither more nor fewer."""
        if self.kinds[j] == "file":
            return ""
        covered = [self.covered(topic, world) for world in fits]
        exact = self.kinds[j] == "exact"
        good = len(log) in covered if exact else min(covered) <= len(log)
        return "" if good else f"I8 the checkpoint in {j} covers {covered} rows, there are {len(log)}"

    def covered(self, topic: Topic, world: int) -> int:
        """How many rows of a world lie at or below the position of the checkpoint."""
        return self.source.covered(world, self.product.position(topic.record)) if topic.record else 0

    def fault_of(self, log: tuple[str, ...], worlds: set[int]) -> str:
        """What is wrong with a log that is no prefix of a history."""
        if len(set(log)) < len(log):
            return "I2 repeated"
        if not any(set(log) <= set(self.source.wanted[world]) for world in worlds):
            return "I6 two histories mixed"
        in_order = [[row for row in self.source.wanted[world] if row in log] for world in worlds]
        return "I1 lost" if list(log) in in_order else "I3 out of order"

    # ---- the slot

    def slot_problem(self, state: State, topics: list[Topic]) -> str:
        """I9: PostgreSQL has forgotten nothing that the sinks the policy waits for do not hold."""
        server, damage = state.server, state.damage
        if not server.confirmed or self.moved_by_hand(state):
            return ""
        flushes = [self.flushed(j, topic) for j, topic in enumerate(topics)]
        if damage.sink >= 0:  # what it said before it was harmed may still be confirmed
            flushes[damage.sink] = max(flushes[damage.sink], damage.confirmed)
        if server.confirmed > self.by_policy(flushes):
            return f"I9 slot at {server.confirmed}, durable are {flushes}"
        for entry in self.source.worlds[server.world].entries:
            if _forgotten(entry, server.confirmed):
                holds = [j == damage.sink or set(entry.rows()) <= set(topic.log) for j, topic in enumerate(topics)]
                if self.by_policy([HELD_BACK * held for held in holds]) < HELD_BACK:
                    return f"I1 slot at {server.confirmed} is past {entry}, which only {holds} have"
        return ""

    def moved_by_hand(self, state: State) -> bool:
        """Whether the slot stands where somebody has put it, or at the WAL's end, where a new one begins."""
        kind, at = state.damage.kind, state.server.confirmed
        anew = kind == "drop" and at == self.source.worlds[state.server.world].end
        return anew or (kind in ("drop", "advance", "carried") and at == state.damage.confirmed)

    def flushed(self, j: int, topic: Topic) -> int:
        """What a sink's record allows to be confirmed."""
        if self.kinds[j] == "file":
            return HELD_BACK
        return self.product.flush(topic.record) if topic.record else BORN

    def by_policy(self, values: list[int]) -> int:
        """commit_policy in its own words: what all have, all required ones, or a quorum."""
        setup = self.setup
        if setup.mode == "quorum":
            return sorted(values, reverse=True)[(setup.quorum or 1) - 1]
        marked = [value for value, sink in zip(values, setup.sinks, strict=True) if sink.required]
        return min(values if setup.mode == "all" or not marked else marked)

    # ---- refusals

    def halt_problem(self, state: State, topics: list[Topic]) -> str:
        """I14: who refuses has a reason, and nothing was moved after it."""
        damage, server = state.damage, state.server
        if not self.is_damaged(state, topics):
            return "I14 refused without need"
        if damage.sink < 0:
            moved = server.confirmed != damage.confirmed and not self.moved_by_hand(state)
            if damage.kind and moved:
                return f"I14 refused after the slot was moved from {damage.confirmed} to {server.confirmed}"
        elif self.is_needed(state, topics, damage.sink):
            if damage.kind != "recreated" and server.confirmed > damage.confirmed:
                return f"I14 refused after the slot was moved to {server.confirmed}, past what was durable"
        else:
            return "I14 refused because of a sink that could be spared"
        return ""

    def is_damaged(self, state: State, topics: list[Topic]) -> bool:
        """Whether something is lost that nobody can bring back."""
        return self.lost_by_failover(state, topics) if state.damage.kind == "failover" else bool(state.damage.kind)

    def is_needed(self, state: State, topics: list[Topic], j: int) -> bool:
        """Whether the policy cannot do without a sink, because of what the others lack as well."""
        if self.setup.mode != "quorum":
            return self.product.needed[j]
        confirmed = state.server.confirmed
        able = [n for n, topic in enumerate(topics) if n != j and not self.lacks(state, n, topic, confirmed)]
        return len(able) < (self.setup.quorum or 1)

    def lacks(self, state: State, j: int, topic: Topic, confirmed: int) -> bool:
        """Whether a slot at `confirmed` is past something that a sink, as far as its record says, does not have."""
        forgotten = [e for e in self.source.worlds[state.server.world].entries if _forgotten(e, confirmed)]
        if self.kinds[j] == "file":
            return any(not set(entry.rows()) <= set(topic.log) for entry in forgotten)
        flushed = self.flushed(j, topic)
        return any(entry.rows() and _end(entry) > flushed for entry in forgotten)

    def lost_by_failover(self, state: State, topics: list[Topic]) -> bool:
        """Whether Kafka stands above the point where the new primary left the old one's history."""
        fork = self.source.worlds[2].fork
        known = [sink.memory for one in state.instances for sink in one.sinks if sink.memory]
        return any(topic.record and self.product.reached(topic.record) > fork for topic in topics) or any(
            self.product.progresses[memory].flush_lsn > fork for memory in known
        )

    # ---- the end

    def goal(self, state: State) -> bool:
        """Everything delivered and confirmed, or every instance refused, for which `violation` wants a reason.

        WAL without events may be kept for a sink that the policy can do without.
        """
        if all(instance.reader.phase == "refused" for instance in state.instances):
            return True
        world = self.source.worlds[state.server.world]
        confirmed = state.server.confirmed
        if (
            confirmed != world.end
            if self.all_needed
            else not all(_forgotten(entry, confirmed) for entry in world.entries)
        ):
            return False
        wanted = set(self.source.wanted[state.server.world])
        done = [set(topic.log) >= wanted and not topic.state for topic in state.topics]
        return self.by_policy([HELD_BACK * complete for complete in done]) == HELD_BACK


def _as_good_as_visible(topics: Sequence[Topic]) -> list[Topic]:
    """A prepared commit will become visible, whatever comes."""
    return [committed(topic) if topic.state == "prepared" else topic for topic in topics]


def _begins(log: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    return log == wanted[: len(log)]


def _is_piece(log: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    """Whether a log has rows of one history without a gap."""
    at = wanted.index(log[0]) if log and log[0] in wanted else 0
    return log == wanted[at : at + len(log)]


def _end(entry: Entry) -> int:
    return entry.end if isinstance(entry, Transaction) else entry.lsn


def _forgotten(entry: Entry, confirmed: int) -> bool:
    """Whether PostgreSQL would not send this again."""
    if isinstance(entry, Transaction):
        return entry.commit < confirmed
    return not isinstance(entry, Message) or entry.lsn <= confirmed
