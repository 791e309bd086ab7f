"""Small file systems in memory, to be filled and emptied again. Mounting needs root."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.support.available import unable

if TYPE_CHECKING:
    from types import TracebackType


MIB, PAGE = 2**20, 4096


class SmallDisk:
    """A tmpfs of so many bytes, unmounted with all that is on it at the end.

    Skips the test where mounting is not allowed; fails it in CI.
    """

    def __init__(self, nbytes: int, at: Path | None = None) -> None:
        """Mount it in an empty directory, or one of its own."""
        self.path = at or Path(tempfile.mkdtemp(prefix="deltaforge-disk-"))
        self._filler = self.path / "filler"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={nbytes},mode=755", "tmpfs", str(self.path)],
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            self.path.rmdir()
            unable(f"a file system of a test's own needs root: {done.stderr.decode(errors='replace').strip()}")

    def fill(self) -> None:
        """Take all space, also from somebody who is writing. The last page of a file may still have room."""
        with self._filler.open("ab") as file:
            for piece in (MIB, PAGE):
                with contextlib.suppress(OSError):
                    while True:
                        os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), piece)

    def empty(self) -> None:
        """Give back what `fill` took."""
        self._filler.unlink(missing_ok=True)

    def read_only(self, on: bool) -> None:
        """Forbid writing, or allow it again. Nobody may have a file open for writing."""
        subprocess.run(["mount", "-o", f"remount,{'ro' if on else 'rw'}", str(self.path)], check=True)

    def close(self) -> None:
        """Unmount it, also when somebody still has a file open."""
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)
        self.path.rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
