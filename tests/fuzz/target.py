"""The process that decodes: input after input until the time is up, or until something is wrong.

Input number n of a seed is the same on every machine. Groups of inputs share their encoders, as the transactions of a
pipeline do, so what is wrong with one input may need the others of its group.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import mmap
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

GROUP = 200
TAGS = "BCRYIUDTMO"
WRONG = 3
"""Exit code: an input broke a rule."""


def main() -> None:
    """Arguments: folder of the built extensions, '' = the installed ones; seed, first input, seconds, 0 = one input."""
    folder, seed, first, seconds, progress, report = sys.argv[1:]
    faulthandler.enable()
    if folder:
        from tests.fuzz import build

        build.load(Path(folder))
    with open(progress, "r+b") as file:
        place = mmap.mmap(file.fileno(), 8)
    found = _Run(int(seed), place)
    try:
        found.inputs(int(first), float(seconds))
    except AssertionError as error:
        traceback.print_exception(error, limit=-4)
        sys.exit(WRONG)
    finally:
        Path(report).write_text(json.dumps(found.report()))


class _Run:
    def __init__(self, seed: int, place: Any) -> None:
        from deltaforge.envelopes import rowcode

        # So that what is kept on purpose is full soon, and growth after that is growth.
        rowcode.MEMO_LIMIT = 256
        self._seed, self._place = seed, place
        self._tags: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._count = self._through = self._records = 0
        self._resident: list[tuple[float, int]] = []
        """After each group: seconds, KiB."""
        self._began = time.monotonic()

    def inputs(self, first: int, seconds: float) -> None:
        """Run inputs from `first` on; without seconds, those of its group up to it. Raises AssertionError."""
        number = first if seconds else first - first % GROUP
        while True:
            elapsed = time.monotonic() - self._began
            if seconds and elapsed >= seconds:
                return
            self._input(number)
            if not seconds and number == first:
                return
            number += 1

    def _input(self, number: int) -> None:
        walk = importlib.import_module("deltaforge._walk")

        from tests.fuzz import mutate
        from tests.support.agreement import Pair
        from tests.support.pgdraws import encoder_settings

        self._place[:8] = number.to_bytes(8, "big")
        if number % GROUP == 0 or not self._count:
            gc.collect()
            self._resident.append((time.monotonic() - self._began, _resident_kib()))
            self._pair = Pair(encoder_settings(Random(f"{self._seed}/{number // GROUP}")), walk)
        r = Random(f"{self._seed}:{number}")
        seen = self._pair.run(mutate.stream(r), r)
        self._count += 1
        self._tags += seen.tags
        self._records += seen.records
        self._through += seen.error is None
        if seen.error is not None:
            self._errors[type(seen.error).__name__] += 1

    def report(self) -> dict[str, Any]:
        """The figures so far."""
        seconds = time.monotonic() - self._began
        early = [kib for at, kib in self._resident if seconds * 0.2 <= at < seconds * 0.4]
        late = [kib for at, kib in self._resident if at >= seconds * 0.8]
        return {
            "inputs": self._count, "through": self._through, "records": self._records, "errors": self._errors,
            "tags": {tag: self._tags[tag] for tag in TAGS}, "seconds": seconds,
            # One sample says little: the sanitizer's allocator gives memory back when it likes.
            "rss_start_kib": median(early or [_resident_kib()]), "rss_end_kib": median(late or [_resident_kib()]),
        }  # fmt: skip


def _resident_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


if __name__ == "__main__":
    main()
