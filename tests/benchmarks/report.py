"""The results for people, as Markdown to be pasted into docs/reference/benchmarks.md, and as JSON for programs."""

from __future__ import annotations

import json
import os
import platform
import re
from itertools import compress
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.benchmarks.drain import AT_LEAST_ONCE, EXACTLY_ONCE, RECVLOGICAL
from tests.benchmarks.peers import DEBEZIUM

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.benchmarks.drain import Run
    from tests.benchmarks.latency import Latency

_OF_PEER = "of Debezium"
_HEAD = (
    "workload", "rows", "program", "rows/s", "of pg_recvlogical", "of at least once", _OF_PEER,
    "CPU s per 1M rows", "peak RSS MiB", "start s", "first rows s",
)  # fmt: skip
_LATENCY_HEAD = ("program", "transactions", "a second", "p50 ms", "p90 ms", "p99 ms", "worst ms", "CPU s a second")


class Throughput(NamedTuple):
    """All runs on one backlog."""

    workload: str
    title: str
    rows: int
    runs: Mapping[str, Sequence[Run]]
    """By program, in the order in which they took their turns."""

    def speed(self, program: str) -> float | None:
        """Rows a second, the median of the rounds; None when the program did not run."""
        runs = self.runs.get(program)
        return self.rows / median(run.seconds for run in runs) if runs else None


def machine(versions: Mapping[str, str]) -> dict[str, str]:
    """What the figures depend on: hardware, system, and the given versions."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    total = re.search(r"^MemTotal:\s*(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "processor": f"{os.cpu_count()} x {model[1] if model else platform.machine()}",
        "memory": f"{int(total[1]) / 2**20:.0f} GiB" if total else "unknown",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        **versions,
    }


def text(described: Mapping[str, str], results: Sequence[Throughput], latencies: Mapping[str, Latency]) -> str:
    """Everything as Markdown."""
    parts = ["\n".join(f"- {name}: {value}" for name, value in described.items())]
    if results:
        left_out = () if any(DEBEZIUM in result.runs for result in results) else (_OF_PEER,)
        parts.append(_table(_HEAD, [row for result in results for row in _rows(result)], left_out))
    if latencies:
        parts.append(_table(_LATENCY_HEAD, [_latency_row(name, found) for name, found in latencies.items()]))
    return "\n\n".join(parts) + "\n"


def document(
    described: Mapping[str, str], results: Sequence[Throughput], latencies: Mapping[str, Latency]
) -> dict[str, Any]:
    """Everything, every run of it, as JSON takes it."""
    return {
        "machine": dict(described),
        "throughput": [
            {
                "workload": result.workload,
                "rows": result.rows,
                "programs": {
                    program: {"rows_per_second": result.speed(program), "runs": [run._asdict() for run in runs]}
                    for program, runs in result.runs.items()
                },
            }
            for result in results
        ],
        "latency": {name: found._asdict() for name, found in latencies.items()},
    }


def save(file: Path, content: Mapping[str, Any]) -> None:
    """Write the JSON file."""
    file.write_text(json.dumps(content, indent=2) + "\n")


def _rows(result: Throughput) -> list[list[str]]:
    yardstick, at_least, peer = (result.speed(program) for program in (RECVLOGICAL, AT_LEAST_ONCE, DEBEZIUM))
    rows = []
    for program, runs in result.runs.items():
        speed = result.speed(program)
        assert speed is not None
        cpu = median(run.cpu_s for run in runs) / result.rows * 1e6
        rows.append(
            [
                result.title,
                f"{result.rows:,}",
                program,
                f"{speed:,.0f}",
                _ratio(speed, yardstick if program != RECVLOGICAL else None),
                _ratio(speed, at_least if program == EXACTLY_ONCE else None),
                _ratio(speed, peer if program in (AT_LEAST_ONCE, EXACTLY_ONCE) else None),
                f"{cpu:.1f}",
                f"{max(run.peak_rss for run in runs) / 2**20:.0f}",
                f"{median(run.start_s for run in runs):.1f}",
                f"{median(run.first_s for run in runs):.2f}" if program != RECVLOGICAL else "",
            ]
        )
    return rows


def _ratio(speed: float, other: float | None) -> str:
    return f"{speed / other:.2f}" if other else ""


def _latency_row(name: str, found: Latency) -> list[str]:
    times = [f"{value:.1f}" for value in (found.p50, found.p90, found.p99, found.worst)]
    return [name, f"{found.transactions:,}", f"{found.per_second:,.0f}", *times, f"{found.cpu_share:.2f}"]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], left_out: Sequence[str] = ()) -> str:
    rule = ["---" if name in ("workload", "program") else "---:" for name in head]
    kept = [name not in left_out for name in head]
    return "\n".join(f"| {' | '.join(compress(line, kept))} |" for line in (head, rule, *rows))
