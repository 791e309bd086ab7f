"""Orders with numbers of our own: write some, and see which of them a topic shows."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING

from tests.support.topics import read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.support.databases import Database

WAIT_S = 90.0
_INSERT = "insert into orders (id, customer_id, total, created_at) select id, 1, 1, now() from unnest(%s::bigint[]) id"


def insert_orders(database: Database, ids: Iterable[int]) -> None:
    """One transaction with these orders."""
    database.execute(_INSERT, [list(ids)])


def seen_orders(bootstrap: str, topic: str) -> list[int]:
    """The numbers a read_committed consumer sees, repeated ones repeated, in rising order."""
    return sorted(json.loads(record.key or b"")["id"] for record in read(bootstrap, topic))


def wait_for_orders(
    bootstrap: str, topic: str, ids: Iterable[int], alive: Callable[[], None], seconds: float = WAIT_S
) -> None:
    """Block until the topic shows all of these. `alive` raises when waiting is pointless."""
    wanted = Counter(ids)
    told = f"{topic} shows {sorted(wanted)}"
    wait_until(lambda: not wanted - Counter(seen_orders(bootstrap, topic)), told, alive, seconds)


def wait_until(reached: Callable[[], bool], what: str, alive: Callable[[], None], seconds: float = WAIT_S) -> None:
    """Ask until the answer is yes. Raises AssertionError when it does not come."""
    deadline = time.monotonic() + seconds
    while not reached():
        alive()
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.1)
