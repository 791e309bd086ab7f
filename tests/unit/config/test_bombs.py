"""Files made to cost time and memory: what each ends with, and what all of them together cost a process.

`DELTAFORGE_BOMB_BYTES` makes them larger, up to what a file may have.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deltaforge.config.load import load_bytes
from deltaforge.config.yamltext import MAX_BYTES, MAX_NODES, MAX_PROBLEMS, read
from deltaforge.sinks.kafka.client_conf import check_client_conf

BYTES = min(int(os.environ.get("DELTAFORGE_BOMB_BYTES", "20000")), MAX_BYTES)
MEMORY_MIB = 64
"""More than all of them may add to a process, one after the other."""
CPU_S = 300
"""Processor seconds after which a process is taken for one that hangs. Nothing else is held against a clock."""


def times(piece: str | bytes) -> bytes:
    """The piece, repeated up to the size of a bomb."""
    raw = piece if isinstance(piece, bytes) else piece.encode()
    return (raw * (BYTES // len(raw) + 1))[:BYTES]


def lines(pattern: str) -> bytes:
    """Numbered lines up to the size of a bomb."""
    return "".join(pattern.format(number) for number in range(BYTES // (len(pattern) + 4))).encode()


LAUGHS = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n" % (c, c, *[c - 1] * 9) for c in range(98, 123)
)
BOMBS: dict[str, tuple[bytes, str]] = {
    "a billion laughs": (LAUGHS, "anchors"),
    "anchors": (lines("- &a{} x\n"), "anchors"),
    "aliases": (times("- *a\n"), "aliases"),
    "merge keys": (times("- <<: {a: 1}\n"), "merge keys"),
    "a deep list": (times("["), "levels deep"),
    "a deep group": (times("{a: "), "levels deep"),
    "deep lists in groups": (times("[{a: "), "levels deep"),
    "a deep list in lines": (times("- "), "levels deep"),
    "keys that are keys": (times("? "), "levels deep"),
    "steps": ("".join(" " * step + "a:\n" for step in range(400)).encode(), "levels deep"),
    "a wide list": (b"[" + b"a," * MAX_NODES, f"more than {MAX_NODES}"),
    "empty lists": (b"[" + times("[],"), "not valid YAML"),
    "many keys": (lines("k{}:\n"), "unknown key"),
    "one key again and again": (times("a: 1\n"), "duplicate key"),
    "one long word": (times("a"), "group of fields"),
    "a long value": (b"a: " + times("b")[3:], "unknown key"),
    "a value of many lines": (b"a: " + times("b\n  ")[3:], "unknown key"),
    "a long quoted value": (b'a: "' + times("b")[5:] + b'"', "unknown key"),
    "many escapes": (b'a: "' + times(r"\U0001F600")[: BYTES // 10 * 10 - 10] + b'"', "unknown key"),
    "a long block": (b"a: |\n" + times("  x\n")[5:], "unknown key"),
    "a long key": (times("a")[3:] + b": 1", "not valid YAML"),
    "a number of many digits": (b"a: " + times("9")[3:], "unknown key"),
    "a number with a huge exponent": (b"a: 1e" + times("9")[5:], "unknown key"),
    "a long tag": (b"a: !" + times("t")[4:], "tags"),
    "a tag of a class": (times("- !!python/object/apply:os.system [id]\n"), "tags"),
    "a long anchor": (b"a: &" + times("t")[4:], "anchors"),
    "a template in a template": (b"a: " + times("${")[4:], "unknown key"),
    "comments": (times("#\n"), "empty"),
    "blank lines": (times("\n"), "empty"),
    "directives": (lines("%TAG !a{}! x\n"), "not valid YAML"),
    "documents": (times("---\na\n"), "more than one document"),
    "a quote that never ends": (b"a: '" + times("x\n")[4:], "not valid YAML"),
    "pipes": (times("|"), "not valid YAML"),
    "special characters": (times("&*!|>'\"%@`"), "not valid YAML"),
    "NUL": (times("\0"), "does not allow"),
    "escape sequences of a terminal": (times("\x1b[2J"), "does not allow"),
    "UTF-16": ("a: b\n".encode("utf-16") * 1000, "not UTF-8"),
    "UTF-32": ("a: b\n".encode("utf-32") * 1000, "not UTF-8"),
    "Latin-1": ("a: ä\n".encode("latin-1") * 1000, "not UTF-8"),
    "surrogates": (times(b"a: \xed\xa0\x80\n"), "not UTF-8"),
    "overlong UTF-8": (times(b"a: \xc0\xaf\n"), "not UTF-8"),
    "marks of the byte order": (times(b"\xef\xbb\xbf")[: BYTES // 3 * 3], "group of fields"),
    "line breaks of Unicode": (times("a: x\u0085")[: BYTES // 6 * 6], "duplicate key"),
    "larger than a file may be": (b"#" * (MAX_BYTES + 1), "larger than"),
}


def load(data: bytes) -> list[str]:
    """All problems of a file, as they are printed."""
    loaded = load_bytes(data, Path("bomb.yaml"), {}, sink_checks=[check_client_conf])
    assert loaded.error is not None
    return [f"{problem.message}" for problem in loaded.error.problems]


@pytest.mark.fault("C2")
@pytest.mark.slow
def test_bombs_cost_a_process_little(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against a file of a few letters that takes the machine, in whatever way YAML has for it."""
    measured = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=False, env=_path())
    assert measured.returncode == 0, measured.stderr[-2000:]
    figures: dict[str, tuple[float, float, list[str]]] = json.loads(measured.stdout)

    slowest = max(figures, key=lambda name: figures[name][0])
    grown = max(memory for _, memory, _ in figures.values())
    with capsys.disabled():
        print(f"\n{len(figures)} bombs of {BYTES} bytes: {sum(spent for spent, _, _ in figures.values()):.1f} s of "
              f"processor, {figures[slowest][0]:.1f} s of it for {slowest}; {grown:.0f} MiB of memory")  # fmt: skip
    for name, (_, wanted) in BOMBS.items():
        problems = figures[name][2]
        assert any(wanted in message for message in problems), (name, problems[:3])
        assert len(problems) <= MAX_PROBLEMS + 1, name
        # No message repeats what the file is full of.
        assert all(len(message) < 200 for message in problems), name
    assert grown <= MEMORY_MIB


def test_a_file_with_twenty_thousand_tables_is_read() -> None:
    """Guards against a limit that a pipeline with many tables meets."""
    tables = ", ".join(f"public.t{number}" for number in range(20_000))
    node, problems = read(f"tables: [{tables}]".encode())
    assert node is not None
    assert problems == []


def _path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}


def _peak_mib() -> float:
    # Not getrusage: its peak begins with that of the process that started us.
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) / 1024


def _measure() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    load(b"a: 1")
    before, figures = _peak_mib(), {}
    for name, (data, _) in BOMBS.items():
        began = time.process_time()
        problems = load(data)
        figures[name] = (time.process_time() - began, _peak_mib() - before, problems)
    print(json.dumps(figures))


if __name__ == "__main__":
    _measure()
