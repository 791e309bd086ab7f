"""Sends one-row transactions at a steady rate and notes when each COMMIT returned. Run by latency.py.

    python -m tests.benchmarks.sender DSN RATE COUNT FILE

FILE becomes COUNT signed 64-bit numbers: the value of the monotonic clock, in nanoseconds, at the return of the COMMIT
of row 1, 2, ... Several connections share the work, because one alone waits for the disk at every commit. A row that is
late is sent at once; nothing is left out.
"""

from __future__ import annotations

import sys
import threading
import time
from array import array
from pathlib import Path

import psycopg

from tests.benchmarks.workloads import ORDERS, TABLE

CONNECTIONS = 8
_LEAD_S = 0.5
_VALUES = ", ".join(column.value for column in ORDERS)
_INSERT = f"insert into {TABLE} select {_VALUES} from (select %s::bigint as n)".replace("n % ", "n %% ")


def main() -> None:
    """Send everything, then write the file."""
    dsn, rate, count, file = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    committed = array("q", bytes(8 * count))
    begin = time.monotonic() + _LEAD_S
    threads = [
        threading.Thread(target=_send, args=(dsn, rate, number, begin, committed)) for number in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file.write_bytes(committed.tobytes())


def _send(dsn: str, rate: float, first: int, begin: float, committed: array[int]) -> None:
    with psycopg.connect(dsn, autocommit=True, options="-c synchronous_commit=on") as connection:
        for index in range(first, len(committed), CONNECTIONS):
            wait = begin + index / rate - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            connection.execute(_INSERT.encode(), [index + 1], prepare=True)
            committed[index] = time.monotonic_ns()


if __name__ == "__main__":
    main()
