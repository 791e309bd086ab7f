"""Harm to the network between us and one server, or both: what a proxy can do to a connection."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.nemesis.schedule import Fault
from tests.proxy.faults import BOTH, TO_CLIENT, TO_SERVER

if TYPE_CHECKING:
    from random import Random

    from tests.nemesis.schedule import Act
    from tests.nemesis.stage import Stage
    from tests.proxy.proxy import Proxy

_WAYS = (BOTH, (TO_CLIENT,), (TO_SERVER,))


def _lines(stage: Stage, rng: Random) -> list[Proxy]:
    """PostgreSQL's, Kafka's, or both."""
    postgres: list[Proxy] = [stage.servers.proxy]
    kafka: list[Proxy] = [*stage.kafka.proxies]
    return rng.choice((postgres, kafka, postgres + kafka))


def _partition(stage: Stage, rng: Random) -> None:
    """Nothing arrives, in both directions or one; afterwards everything does, or what was on its way is lost."""
    ways, keep = rng.choice(_WAYS), rng.random() < 0.5
    lines = _lines(stage, rng)
    holes = [(line, line.black_hole(ways, keep=keep)) for line in lines]
    time.sleep(rng.choice((0.5, 3.0, 8.0, 15.0)))
    for line, hole in holes:
        line.lift(hole)
    if not keep:
        # A stream with a gap stays silent for ever; that is a fault of its own, below.
        for line in lines:
            line.cut()


def _half_open(stage: Stage, rng: Random) -> None:
    """The peer of every connection is gone and nobody says so."""
    for line in _lines(stage, rng):
        hole = line.black_hole(keep=False)
        time.sleep(rng.uniform(0.5, 2.0))
        line.lift(hole)


def _resets(stage: Stage, rng: Random) -> None:
    """Connections are reset again and again."""
    lines = _lines(stage, rng)
    for _ in range(rng.randint(1, 8)):
        for line in lines:
            line.reset() if rng.random() < 0.7 else line.cut()
        time.sleep(rng.uniform(0.02, 0.8))


def _slow(stage: Stage, rng: Random) -> None:
    """Delay, little bandwidth, or bytes in small pieces."""
    for_s = rng.uniform(2.0, 6.0)
    harm = rng.choice(("delay", "throttle", "chop"))
    found = []
    for line in _lines(stage, rng):
        if harm == "delay":
            found.append((line, line.delay(rng.choice((50, 300, 1500)))))
        elif harm == "throttle":
            found.append((line, line.throttle(rng.choice((8_000, 64_000)))))
        else:
            found.append((line, line.chop(rng.choice((1, 7)))))
    time.sleep(for_s)
    for line, fault in found:
        line.lift(fault)


def _deaf(stage: Stage, rng: Random) -> None:
    """New connections are refused, or taken and never answered; the old ones are cut."""
    lines, refuse = _lines(stage, rng), rng.random() < 0.5
    for line in lines:
        line.refuse() if refuse else line.hang()
        line.cut()
    time.sleep(rng.choice((0.5, 3.0, 8.0)))
    for line in lines:
        line.heal()


def _alternating(stage: Stage, rng: Random) -> None:
    """Now one server, now the other, a second each."""
    for _ in range(rng.randint(2, 5)):
        for lines in ([stage.servers.proxy], [*stage.kafka.proxies]):
            holes = [(line, line.black_hole()) for line in lines]
            time.sleep(1.0)
            for line, hole in holes:
                line.lift(hole)


def _fault(row: str, name: str, act: Act) -> Fault:
    return Fault(row, name, "network", act)


FAULTS = (
    _fault("N1", "a partition", _partition),
    _fault("N2", "a storm of resets", _resets),
    _fault("N3", "half-open connections", _half_open),
    _fault("N4", "a server that refuses or hangs", _deaf),
    _fault("N5", "a slow network", _slow),
    _fault("N8", "partitions in turn", _alternating),
)
