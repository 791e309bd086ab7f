"""What is explored: setups in which the protocol has to hold. CI takes the quick ones, `--deep` all of them.

PROCESS faults (crash, restart, lost item, doubt, timeout, cut, server crash) are survived without anybody's help. After
damage (restore, dropped or moved slot, lost topic, lost rows) the pipeline refuses, unless what was lost is not missed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.model.base import Kind, Setup
from tests.model.faults import DAMAGE, PROCESS

EXACT, LEAST, FILE = Kind(), Kind("least"), Kind("file")
SPARED, SPARED_FILE = Kind(required=False), Kind("file", required=False)

SLOW = PROCESS | {"slow"}
SERVER = frozenset({"restore", "drop", "advance", "carried", "failover", "forgot"})
TOPICS = frozenset({"tail", "older", "recreated"})


class Run(NamedTuple):
    """One search, in which everything has to hold."""

    setup: Setup
    deep: bool = False
    """Takes too long for every change."""


def _run(wal: str, faults: frozenset[str] | set[str], budget: int = 1, *, deep: bool = False, **rest: Any) -> Run:
    return Run(Setup(wal, faults=frozenset(faults), budget=budget, **rest), deep)


def _two(wal: str, faults: frozenset[str] | set[str], budget: int = 1, *, deep: bool = False, **rest: Any) -> Run:
    """Two processes."""
    return _run(wal, faults, budget, deep=deep, instances=2, **rest)


def _sinks(
    wal: str, sinks: tuple[Kind, ...], mode: str, faults: frozenset[str] | set[str], budget: int = 1, **rest: Any
) -> Run:
    """Several sinks. What one sink does alone, the searches above have looked at step by step."""
    return _run(wal, faults, budget, sinks=sinks, mode=mode, coarse=True, **{"born": True, **rest})


RUNS: dict[str, Run] = {
    # one process, one Kafka sink
    "one fault": _run("full", PROCESS),
    "two faults": _run("full", PROCESS, 2, deep=True),
    "two faults, one transaction": _run("one", SLOW, 2),
    "longer inboxes": _run("small", PROCESS, room=2, kept=3),
    "longer inboxes, all of the WAL": _run("full", PROCESS, room=2, kept=3, deep=True),
    "split transaction, cut anew": _run("split", SLOW, room=2, cuts=2),
    "split transaction, two faults": _run("split", SLOW, 2, room=2, cuts=2, deep=True),
    "damage": _run("small", SERVER, cuts=2),
    "damage, all of the WAL": _run("full", SERVER, cuts=2, deep=True),
    "damage and a crash": _run("idle", SERVER | {"crash"}, 2),
    "damage and one fault": _run("full", SERVER | {"crash", "server", "doubt"}, 2, deep=True),
    "Kafka loses rows": _run("pair", TOPICS),
    "Kafka loses rows, and one fault": _run("small", TOPICS | {"crash", "doubt"}, 2, deep=True),
    "foreign transaction on the checkpoint partition": _run("pair", {"pin", "crash", "doubt"}, 2),
    "failover and a crash": _run("pair", {"failover", "carried", "crash"}, 2),
    # two processes
    "two race at first start": _two("one", {"crash", "pause"}),
    "two race at first start, more faults": _two("small", {"crash", "pause", "slow", "doubt", "cut"}, deep=True),
    "two, the slot dropped": _two("one", {"drop", "advance", "crash"}),
    "two, damage or crash": _two("small", SERVER | {"crash"}, deep=True),
    "stopped instance and slow commit": _two("one", {"pause", "slow"}, 2, born=True),
    "stopped instance and slow commit, more WAL": _two("small", {"pause", "slow"}, 2, born=True, deep=True),
    "stopped instance and restored copy": _two("idle", {"pause", "restore"}, 2, born=True, deep=True),
    # other sinks
    "at least once": _run("pair", SLOW | {"late_endtxn"}, sinks=(LEAST,)),
    "at least once, two faults": _run("small", SLOW | {"late_endtxn"}, 2, sinks=(LEAST,), deep=True),
    "at least once, damage": _run("one", DAMAGE, sinks=(LEAST,)),
    "at least once, two processes": _two("one", {"pause", "crash"}, 2, born=True, sinks=(LEAST,), deep=True),
    "file": _run("idle", PROCESS | {"flow"}, 2, sinks=(FILE,)),
    "file, all of the WAL": _run("full", PROCESS | {"flow"}, 2, sinks=(FILE,), deep=True),
    "file, damage while it runs": _run("pair", {"advance", "restore", "failover"}, sinks=(FILE,)),
    # several sinks
    "all": _sinks("pair", (EXACT, EXACT), "all", PROCESS),
    "all, damage": _sinks("one", (EXACT, EXACT), "all", SERVER),
    "all, Kafka loses rows": _sinks("one", (EXACT, EXACT), "all", TOPICS),
    "all, with a file": _sinks("pair", (EXACT, FILE), "all", PROCESS | {"flow"}),
    "required": _sinks("pair", (EXACT, SPARED), "required", PROCESS),
    "required, two faults": _sinks("pair", (LEAST, SPARED), "required", PROCESS, 2, deep=True),
    "required, a file is spared": _sinks(
        "pair", (EXACT, SPARED_FILE), "required", {"flow", "sink", "cut", "doubt", "server"}, room=8
    ),
    "required, spared Kafka damaged": _sinks("one", (FILE, SPARED), "required", TOPICS | {"forgot"}),
    "required, any Kafka damaged": _sinks("one", (EXACT, SPARED), "required", DAMAGE, deep=True),
    "quorum of one": _sinks("pair", (EXACT, EXACT), "quorum", {"crash", "sink", "doubt"}, quorum=1),
    "quorum of one, two faults": _sinks(
        "pair", (EXACT, EXACT), "quorum", {"crash", "sink", "doubt"}, 2, quorum=1, room=2, deep=True
    ),
    "quorum of one, Kafka loses rows": _sinks("one", (EXACT, EXACT), "quorum", TOPICS, quorum=1),
    "quorum of one, damage": _sinks("one", (EXACT, EXACT), "quorum", SERVER, quorum=1),
    "quorum, two of three": _sinks("one", (EXACT,) * 3, "quorum", {"crash"}, quorum=2),
    "quorum, two of three, more faults": _sinks("one", (EXACT,) * 3, "quorum", PROCESS, quorum=2, deep=True),
    "two sinks at first start": _sinks("one", (EXACT, EXACT), "all", {"crash", "drop"}, 2, born=False),
    "two sinks, two processes at first start": _sinks(
        "one", (EXACT, EXACT), "all", {"crash", "pause"}, instances=2, born=False, deep=True
    ),
}
