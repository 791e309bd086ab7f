"""The stdout sink: records as JSON lines on standard output. At least once, and only as durable as its reader.

Rule 1: writing waits for the reader in slices of half a second, so that the sink can be stopped while nobody reads.
Rule 2: a reader that went away (`deltaforge ... | head`) cannot come back: the sink ends its pipeline with one line.
"""

from __future__ import annotations

import os
import select
import sys
import time
from typing import TYPE_CHECKING

import trio

from actors import Escalate, waiting_here
from deltaforge.errors import OperatorError
from deltaforge.sinks.base import SmallSink
from deltaforge.sinks.lines import lines

if TYPE_CHECKING:
    from deltaforge.envelopes.base import Encoded
    from deltaforge.sinks.base import SinkWiring

SLICE_S = 0.5
_NEWLINE = ord("\n")


class StdoutSink(SmallSink):
    """Write JSON lines to a file descriptor, standard output unless told otherwise."""

    def __init__(self, wiring: SinkWiring, *, fd: int | None = None) -> None:
        super().__init__(wiring)
        self._fd = sys.__stdout__.fileno() if fd is None and sys.__stdout__ is not None else fd or 1
        self._limiter = trio.CapacityLimiter(1)
        self._open_batch = bytearray()
        self._torn = False

    async def open(self) -> None:
        """Start on a new line if a predecessor was stopped within one."""
        self._open_batch = bytearray(b"\n" if self._torn else b"")

    def write(self, encoded: Encoded) -> None:
        """Keep the lines until `make_durable`."""
        self._open_batch += lines(encoded)

    async def make_durable(self) -> None:
        """Hand the lines to whoever reads."""
        data, self._open_batch = bytes(self._open_batch), bytearray()
        rest = memoryview(data)
        with waiting_here("the reader of standard output"):
            while rest:
                rest = await self._some(rest)
                self._torn = data[len(data) - len(rest) - 1] != _NEWLINE

    def close(self) -> None:
        """Standard output stays open: it is not ours."""

    async def _some(self, rest: memoryview) -> memoryview:
        try:
            return await trio.to_thread.run_sync(_write_slice, self._fd, rest, limiter=self._limiter)
        except BrokenPipeError:
            gone = OperatorError(
                "nobody reads standard output any more",
                hint="what was not read was not confirmed; start again with a reader that stays, or use the file sink",
            )
            self._report("blocked", gone.line())
            raise Escalate(gone) from None
        except OSError as error:
            raise OperatorError(f"cannot write standard output: {os.strerror(error.errno or 0)}") from None


def _write_slice(fd: int, rest: memoryview) -> memoryview:
    """In a thread: write what the reader takes within a slice; returns what is left."""
    deadline = time.monotonic() + SLICE_S
    while rest and (left := deadline - time.monotonic()) > 0:
        _, writable, _ = select.select([], [fd], [], left)
        if writable:
            # A pipe that is writable takes this much without blocking.
            rest = rest[os.write(fd, rest[: select.PIPE_BUF]) :]
    return rest
