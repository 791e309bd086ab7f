"""Feed the codec generated and damaged replication streams, with the sanitizers watching the compiled code.

Run: python -m tests.fuzz [--minutes 10] [--seed N] [--only INPUT] [--without-sanitizers]

What must not happen: a crash, a sanitizer's report, an input that takes longer than 20 s, an error that is not one of
deltaforge.errors, a result that differs from the Python encoder's, a record of a change that the strict decoder
refuses, memory that grows. Exit code 1 when it does; the input is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz import build, mutate
from tests.fuzz.target import TAGS, WRONG

PROGRAM = ("-m", "tests.fuzz.target")
HANG_S = 20.0
STEADY_S = 240
LEAST_THROUGH = 0.2
ENOUGH = 2000
"""Inputs from which on every tag has to be among them."""
SHOWN = 4000
"""Characters of a message that are printed; the rest is drawn again from the seed."""


def main() -> int:
    """Build, run, watch, report."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="a number; the default is another one every time")
    parser.add_argument("--only", type=int, default=None, metavar="INPUT", help="one input of that seed again")
    parser.add_argument("--without-sanitizers", action="store_true", help="the installed extensions, as they are")
    options = parser.parse_args()
    seed = secrets.randbelow(10**9) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory(prefix="deltaforge-fuzz-") as name:
        folder = Path(name)
        environment = dict(os.environ, PYTHONPATH=str(build.ROOT), PYTHONHASHSEED="0")
        if not options.without_sanitizers:
            try:
                build.build(folder, sanitize=True)
                environment |= build.preload()
            except build.NotBuilt as error:
                print(f"cannot build with the sanitizers: {error}", file=sys.stderr)
                return 2
        seconds = 0.0 if options.only is not None else options.minutes * 60
        built = "" if options.without_sanitizers else name
        print(f"seed {seed}, {'installed extensions' if not built else 'address and undefined sanitizers'}", flush=True)
        return _watched(folder, [built, str(seed), str(options.only or 0), str(seconds)], environment, seed)


def _watched(folder: Path, arguments: list[str], environment: dict[str, str], seed: int) -> int:
    """Run the target to its end, or to the end of our patience."""
    progress, report = folder / "progress", folder / "report"
    progress.write_bytes(bytes(8))
    command = [sys.executable, *PROGRAM, *arguments, str(progress), str(report)]
    target = subprocess.Popen(command, env=environment, cwd=build.ROOT)
    hung = False
    try:
        hung = _hangs(target, progress)
    finally:
        if target.poll() is None:
            # faulthandler says where it was.
            target.send_signal(signal.SIGABRT)
            try:
                target.wait(10)
            except subprocess.TimeoutExpired:
                target.kill()
                target.wait()
    number = int.from_bytes(progress.read_bytes(), "big")
    problems = _print(json.loads(report.read_text())) if report.exists() else []
    if hung:
        problems.append(f"input {number} did not end within {HANG_S:.0f} s")
    elif target.returncode == WRONG:
        problems.append(f"input {number} broke a rule")
    elif target.returncode:
        problems.append(f"the process ended with {target.returncode} at input {number}")
    if hung or target.returncode:
        _show(seed, number)
    for problem in problems:
        print(f"WRONG: {problem}")
    return 1 if problems else 0


def _hangs(target: subprocess.Popen[bytes], progress: Path) -> bool:
    """Wait for the end. True when an input takes too long."""
    last, since = b"", time.monotonic()
    while target.poll() is None:
        try:
            target.wait(0.25)
        except subprocess.TimeoutExpired:
            now = progress.read_bytes()
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > HANG_S:
                return True
    return False


def _print(report: dict[str, Any]) -> list[str]:
    """Print the figures; what is wrong with them."""
    inputs, through = report["inputs"], report["through"]
    share = through / inputs if inputs else 0.0
    start, end = report["rss_start_kib"], report["rss_end_kib"]
    print(f"inputs {inputs} in {report['seconds']:.1f} s ({inputs / max(report['seconds'], 0.001):.0f}/s)")
    print(f"decoded to the end {through} ({share:.1%}), records {report['records']}, errors {report['errors']}")
    print("messages " + " ".join(f"{tag} {report['tags'][tag]}" for tag in TAGS))
    print(f"resident {start / 1024:.1f} MiB in the second fifth, {end / 1024:.1f} MiB in the last fifth")
    problems = []
    if inputs >= ENOUGH:
        problems += [f"no message {tag} was reached" for tag in TAGS if not report["tags"][tag]]
        if share < LEAST_THROUGH:
            problems.append(f"only {share:.1%} of the inputs decode")
        # In short runs the sanitizers still fill their own stores.
        if report["seconds"] > STEADY_S and end > start * 1.25 + 16 * 1024:
            problems.append("memory grows")
    return problems


def _show(seed: int, number: int) -> None:
    """Print an input, and how to have it again."""
    print(f"again: python -m tests.fuzz --seed {seed} --only {number}")
    for payload in mutate.stream(Random(f"{seed}:{number}")).payloads:
        shown = payload.hex()
        print(shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}... ({len(payload)} bytes)")


if __name__ == "__main__":
    sys.exit(main())
