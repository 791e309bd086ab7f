"""Explore the model of the delivery protocol: every run has to hold, every mutant has to be found.

    python -m tests.model                      what plain pytest explores
    python -m tests.model --deep               everything
    python -m tests.model --mutants            mutants alone
    python -m tests.model --run "two faults"   runs and mutants with this in their names, also deep ones
    python -m tests.model --trace ...          with the shortest way to each violation
    python -m tests.model --walk 1000          so many random walks, nothing else; --seed N for the same ones again
    python -m tests.model --list               names, with what has to catch each mutant

Ends with 0 when all was as it has to be, 1 when not, 2 when no name fits.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from hypothesis import Phase, settings
from hypothesis import seed as seeded
from hypothesis.stateful import run_state_machine_as_test

from tests.model.explore import Verdict, explore
from tests.model.mutants import MUTANTS
from tests.model.protocol import Model
from tests.model.runs import RUNS
from tests.model.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CLEAN, TROUBLE, UNABLE = range(3)


class Search(NamedTuple):
    """One exploration."""

    name: str
    caught_by: str
    """The invariant that a mutant has to break; '' = everything has to hold."""
    deep: bool
    explore: Callable[[], Verdict]


def searches() -> Iterator[Search]:
    """All of them, runs first."""
    for name, run in RUNS.items():
        yield Search(name, "", run.deep, lambda run=run: explore(Model(run.setup)))  # type: ignore[misc]
    for name, mutant in MUTANTS.items():
        yield Search(name, mutant.caught_by, mutant.deep, mutant.explore)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says. Returns the exit code."""
    options = _parser().parse_args(arguments)
    if options.walk is not None:
        return _walk(options.walk, options.seed)
    chosen = [search for search in searches() if _is_wanted(search, options)]
    if not chosen:
        print("no run or mutant has such a name, see --list", file=sys.stderr)
        return UNABLE
    if options.list:
        print("\n".join(f"{s.caught_by or 'run':<4} {'deep' * s.deep:<5} {s.name}" for s in chosen))
        return CLEAN
    began, failed, states = time.monotonic(), 0, 0
    for search in chosen:
        good, seen = _explore(search, trace=options.trace)
        failed, states = failed + (not good), states + seen
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    took = time.monotonic() - began
    print(f"{len(chosen)} searches, {failed} not as they have to be, {states:,} states, {took:.0f} s, {memory:,} MiB")
    return TROUBLE if failed else CLEAN


def _explore(search: Search, *, trace: bool) -> tuple[bool, int]:
    """Whether the outcome was as it has to be, and the number of states."""
    began = time.monotonic()
    verdict = search.explore()
    good = verdict.invariant == search.caught_by
    said = ("found" if search.caught_by else "holds") if good else "WRONG"
    seconds = time.monotonic() - began
    print(f"{said} {search.caught_by:<4} {search.name:<55} {verdict.states:>10,} states {seconds:7.1f} s", flush=True)
    if verdict.problem and (trace or not good):
        print(f"      {verdict.problem}")
    elif not good:
        print(f"      nothing breaks {search.caught_by}")
    for number, step in enumerate(verdict.trace if trace or not good else (), 1):
        print(f"      {number:>3} {step}", flush=True)
    return good, verdict.states


def _walk(count: int, seed: int | None) -> int:
    """Random walks. A failing one is printed by Hypothesis, as short as it could make it."""
    seed = random.randrange(10**9) if seed is None else seed
    began = time.monotonic()
    print(f"{count} walks, seed {seed}", flush=True)
    phases = (Phase.generate, Phase.shrink)
    usual = settings(max_examples=count, deadline=None, database=None, print_blob=True, phases=phases)
    run_state_machine_as_test(seeded(seed)(Walk), settings=usual)
    print(f"{Walk.taken:,} steps, {time.monotonic() - began:.0f} s")
    return CLEAN


def _is_wanted(search: Search, options: argparse.Namespace) -> bool:
    if options.mutants and not search.caught_by:
        return False
    if options.run:
        return any(part in search.name for part in options.run)
    return options.deep or options.list or not search.deep


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.model", description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--run", action="append", metavar="NAME", help="part of a name; may be given several times")
    parser.add_argument("--deep", action="store_true", help="also what takes minutes")
    parser.add_argument("--mutants", action="store_true", help="mutants alone")
    parser.add_argument("--trace", action="store_true", help="print the shortest way to each violation")
    parser.add_argument("--walk", type=int, metavar="N", help="N random walks instead")
    parser.add_argument("--seed", type=int, help="of the random walks; without it another one each time")
    parser.add_argument("--list", action="store_true", help="print names, explore nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
