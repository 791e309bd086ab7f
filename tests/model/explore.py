"""Breadth-first search over a model: every state is checked, and from each an end must be reachable without a fault."""

from __future__ import annotations

import gc
from array import array
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tests.model.protocol import Model
    from tests.model.state import State

LIMIT = 8_000_000


class Verdict(NamedTuple):
    """What a search found; `problem` is '' when everything holds."""

    problem: str
    trace: list[str]
    """The shortest way to the problem."""
    states: int

    @property
    def invariant(self) -> str:
        """Name of the invariant that is broken; '' when none is."""
        return _invariant(self.problem)


def _invariant(problem: str) -> str:
    return problem.partition(" ")[0]


def explore(model: Model, wanted: str = "") -> Verdict:
    """Look at every state up to the first violation, or the first of the invariant `wanted`.

    Raises MemoryError when there are more than LIMIT.
    """
    was_on = gc.isenabled()
    gc.disable()  # millions of tuples live to the end: looking for garbage among them takes a third of the time
    try:
        return _explore(model, wanted)
    finally:
        if was_on:
            gc.enable()


def _explore(model: Model, wanted: str) -> Verdict:
    first = model.first()
    numbers: dict[State, int] = {first: 0}
    states, parents = [first], array("i", [-1])
    starts, targets = array("q"), array("i")
    wrong: set[int] = set()
    for number, state in enumerate(states):  # grows while it is walked
        starts.append(len(targets))
        for faulty, ahead in ((False, model.steps(state)), (True, model.faults(state))):
            for _, after in ahead:
                found = numbers.setdefault(after, len(states))
                if found == len(states):
                    states.append(after)
                    parents.append(number)
                    if problem := model.violation(after):
                        if _invariant(problem) == wanted or not wanted:
                            return Verdict(problem, _trace(model, states, parents, found), len(states))
                        wrong.add(found)
                if not faulty:
                    targets.append(found)
        if number > LIMIT:
            raise MemoryError("too many states")
    stuck = _stuck(model, states, starts, targets, wrong)
    if stuck >= 0:
        problem = "I11 never drains: no end is reachable from here without a further fault"
        return Verdict(problem, _trace(model, states, parents, stuck), len(states))
    return Verdict("", [], len(states))


def _stuck(model: Model, states: list[State], starts: array[int], targets: array[int], wrong: set[int]) -> int:
    """The first state from which no end can be reached; -1 when there is none."""
    count = len(states)
    starts.append(len(targets))
    back: list[list[int]] = [[] for _ in range(count)]
    for number in range(count):
        for target in targets[starts[number] : starts[number + 1]]:
            back[target].append(number)
    good = bytearray(map(model.goal, states))
    for number in wrong:
        good[number] = 1
    work = [number for number in range(count) if good[number]]
    while work:
        for number in back[work.pop()]:
            if not good[number]:
                good[number] = 1
                work.append(number)
    return good.find(0)


def _trace(model: Model, states: list[State], parents: array[int], number: int) -> list[str]:
    steps: list[str] = []
    while parents[number] >= 0:
        before, after = states[parents[number]], states[number]
        ways = (
            label for ahead in (model.steps(before), model.faults(before)) for label, found in ahead if found == after
        )
        steps.append(next(ways))
        number = parents[number]
    return steps[::-1]
