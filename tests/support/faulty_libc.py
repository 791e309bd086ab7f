"""A C library under a process of its own whose clock, disk and threads are as a test wants them to be.

What the kernel would do is left to the kernel wherever a test may ask for it: limits (`prlimit`), full file systems.
But the clock of the machine belongs to everybody, a disk that breaks needs a device of its own, and root has threads
without end: there `faulty_libc.c`, loaded before the C library, answers in its place.
"""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.support.available import unable

if TYPE_CHECKING:
    from collections.abc import Mapping

_SOURCE = Path(__file__).with_suffix(".c")
_NUMBERS = 4


class FaultyLibc:
    """One process's C library; pass `environment` to it. Without a C compiler skips the test; fails it in CI."""

    def __init__(self) -> None:
        if shutil.which("gcc") is None:
            unable("a C library of a test's own needs gcc")
        self._directory = Path(tempfile.mkdtemp(prefix="deltaforge-libc-"))
        library, numbers = self._directory / "faulty.so", self._directory / "numbers"
        flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(["gcc", *flags, "-o", str(library), str(_SOURCE), "-ldl"], check=True)
        numbers.write_bytes(bytes(8 * _NUMBERS))
        with numbers.open("r+b") as file:
            self._numbers = mmap.mmap(file.fileno(), 0)
        self.environment: Mapping[str, str] = {"LD_PRELOAD": str(library), "DELTAFORGE_FAULTY_LIBC": str(numbers)}

    def shift_clock(self, seconds: int) -> None:
        """Let the wall clock be so far ahead of the real one (behind it, if negative); the monotonic clock goes on."""
        self._set(0, seconds)

    def fail_writes(self, error: int) -> None:
        """Let writing to files fail with this errno; 0 = as it should be. Not to standard output, nor to pipes."""
        self._set(1, error)

    def fail_fsync(self, error: int) -> None:
        """The same for waiting until written data are on disk."""
        self._set(2, error)

    def fail_threads(self, error: int) -> None:
        """The same for starting threads."""
        self._set(3, error)

    def _set(self, number: int, value: int) -> None:
        struct.pack_into("=q", self._numbers, 8 * number, value)

    def close(self) -> None:
        """Forget it; the process must have ended."""
        self._numbers.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
