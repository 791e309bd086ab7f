"""The file sink: records as JSON lines, on disk before they are confirmed. At least once.

Rule 1: a batch is appended and fsynced before its receipt. What a crash tears off in the middle of a line is cut away
        at the next start, so the file holds whole lines only.
Rule 2: the position is not kept in the file. After a restart of the process rows that were written but not confirmed
        are written again. Within the process, what a failed batch left behind is cut away and its rows appear once.
Rule 3: one writer: the file is locked while the sink runs.
Rule 4: a full disk, a read-only or deleted file is for a person to mend. Meanwhile nothing is confirmed; the sink tries
        again by itself, and starts a new file where the old one is gone (log rotation).
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from actors import waiting_here
from deltaforge.errors import OperatorError
from deltaforge.sinks.base import SmallSink
from deltaforge.sinks.lines import lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from deltaforge.envelopes.base import Encoded
    from deltaforge.sinks.base import SinkWiring

_TAIL = 64 * 1024

_HINTS = {
    errno.ENOSPC: "make room on the disk; deltaforge goes on by itself",
    errno.EDQUOT: "raise the quota; deltaforge goes on by itself",
    errno.EROFS: "the file system is read-only: remount it; deltaforge goes on by itself",
    errno.EACCES: "give deltaforge the right to write there; it goes on by itself",
    errno.EPERM: "give deltaforge the right to write there; it goes on by itself",
    errno.ENOENT: "create the directory; deltaforge goes on by itself",
}


class FileSink(SmallSink):
    """Append JSON lines to one file."""

    def __init__(self, wiring: SinkWiring, *, path: str) -> None:
        super().__init__(wiring)
        self._path = Path(path)
        self._limiter = trio.CapacityLimiter(1)
        self._fd = -1
        self._open_batch = bytearray()
        self._known: tuple[int, int, int] | None = None
        """Device, inode and size of the file as it was last made durable by this object."""

    async def open(self) -> None:
        """Open, lock and clean up the file."""
        self._open_batch = bytearray()
        await self._thread(self._open_file)

    def write(self, encoded: Encoded) -> None:
        """Keep the lines until `make_durable`."""
        self._open_batch += lines(encoded)

    async def make_durable(self) -> None:
        """Append the lines and wait for the disk."""
        data, self._open_batch = bytes(self._open_batch), bytearray()
        await self._thread(lambda: self._append(data))

    def close(self) -> None:
        """Close the file; what is not durable is not promised to anybody."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):
                os.close(fd)

    # ---- in a thread

    async def _thread(self, work: Callable[[], None]) -> None:
        try:
            with waiting_here("the disk"):
                await trio.to_thread.run_sync(work, limiter=self._limiter)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise OperatorError(
                f'cannot write file "{self._path}": {reason}',
                hint=_HINTS.get(error.errno or 0, "check the path and the disk; deltaforge goes on by itself"),
            ) from None

    def _open_file(self) -> None:
        created = not self._path.exists()
        self._fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OperatorError(
                f'file "{self._path}" is being written by another sink',
                hint="give each file sink its own path; deltaforge goes on by itself",
            ) from None
        end = self._clean_end()
        if end < os.fstat(self._fd).st_size:
            os.ftruncate(self._fd, end)
        os.fsync(self._fd)
        if created:
            self._sync_directory()
        self._remember()

    def _clean_end(self) -> int:
        """Where the durable or at least whole lines end."""
        found = os.fstat(self._fd)
        if self._known is not None and (found.st_dev, found.st_ino) == self._known[:2]:
            return min(found.st_size, self._known[2])
        at = found.st_size
        while at > 0:
            start = max(0, at - _TAIL)
            newline = os.pread(self._fd, at - start, start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            at = start
        return 0

    def _append(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        os.fsync(self._fd)
        found = os.fstat(self._fd)
        named = self._path.stat() if self._path.exists() else None
        if named is None or (named.st_dev, named.st_ino) != (found.st_dev, found.st_ino):
            self._known = None
            raise OperatorError(
                f'file "{self._path}" was deleted or moved while it was written',
                hint="nothing to do: a new file is begun with what was not confirmed yet",
            )
        self._remember()

    def _remember(self) -> None:
        found = os.fstat(self._fd)
        self._known = found.st_dev, found.st_ino, found.st_size

    def _sync_directory(self) -> None:
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
