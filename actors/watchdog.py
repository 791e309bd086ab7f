"""Notice an event loop that does not turn any more, from a thread that does not need it.

A stalled actor is the supervisor's business; a blocked loop stops the supervisor too. Then the only
honest way out is to show every stack and end the process, so that whoever runs it starts it again.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

import trio

from .errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .actor import ActorContext


def dump_and_exit(silent_s: float) -> None:
    """Write all stacks to stderr and end the process with 1, without any cleanup."""
    sys.stderr.write(f"event loop silent for {silent_s:.0f} s: all stacks follow, then exit 1\n")
    faulthandler.dump_traceback(all_threads=True)
    os._exit(1)


class LoopWatchdog:
    """Call `on_silence` when the event loop did not turn for `silent_s` seconds.

    Its `run` fits a ChildSpec and a plain nursery alike.

    Args:
      silent_s: silence that counts, in seconds of real time; not those for which the whole process was stopped.
      on_silence: called in the watchdog's thread with the silence in seconds, once per silence.
    """

    def __init__(self, silent_s: float = 30.0, on_silence: Callable[[float], None] = dump_and_exit) -> None:
        if silent_s <= 0:
            raise SpecError(f"LoopWatchdog(silent_s={silent_s}): must be above zero")
        self.silent_s = silent_s
        self._on_silence = on_silence
        self._tick_s = silent_s / 4

    async def run(self, ctx: ActorContext | None = None) -> None:
        """Watch until stopped or cancelled."""
        await trio.lowlevel.checkpoint()
        over = threading.Event()
        self._turned_at = time.monotonic()
        thread = threading.Thread(target=self._watch, args=(over,), name="loop-watchdog", daemon=True)
        thread.start()
        stopping = trio.Event() if ctx is None else ctx.stopping
        if ctx is not None:
            ctx.started()
        try:
            while not stopping.is_set():
                self._turned_at = time.monotonic()
                with trio.move_on_after(self._tick_s):
                    await stopping.wait()
        finally:
            over.set()
            thread.join()

    def _watch(self, over: threading.Event) -> None:
        turned_at, silent_s, reported = self._turned_at, 0.0, False
        looked_at = time.monotonic()
        while not over.wait(self._tick_s):
            before, looked_at = looked_at, time.monotonic()
            if self._turned_at != turned_at:
                turned_at, silent_s, reported = self._turned_at, 0.0, False
                continue
            # When we stood still as well the whole process did (SIGSTOP, a debugger, a frozen machine): no silence.
            silent_s += min(looked_at - before, 2 * self._tick_s)
            if silent_s > self.silent_s and not reported:
                reported = True
                self._on_silence(silent_s)
