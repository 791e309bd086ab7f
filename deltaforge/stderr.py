"""Lines to stderr that never hold the process up, whatever reads them (or does not).

Rule 1: whoever writes a line only puts it into a bounded queue; one daemon thread writes to the file descriptor.
Rule 2: a full queue drops the new line and counts it. The count is written once lines flow again.
Rule 3: a line leaves with every known secret covered, and without control characters that would forge other lines.
Rule 4: an error of the descriptor (disk full, reader gone) drops the line; nobody could be told anyway.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque

from deltaforge.config.secret import redact

CAPACITY_LINES = 10_000
CAPACITY_CHARACTERS = 8 * 1024 * 1024

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


class LineWriter:
    """Writes lines to one file descriptor from one thread, started with the first line."""

    def __init__(self, fd: int = 2, *, lines: int = CAPACITY_LINES, characters: int = CAPACITY_CHARACTERS) -> None:
        self._fd = fd
        self._max_lines = lines
        self._max_characters = characters
        self._queue: deque[str] = deque()
        self._characters = 0
        self._lost = 0
        self._busy = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self.dropped = 0
        """Lines dropped since the start."""

    def write(self, text: str) -> None:
        """Queue `text` as one line (or one block, for a traceback). Never waits for the reader, never raises."""
        text = redact(text).translate(_CONTROL)
        with self._changed:
            if len(self._queue) >= self._max_lines or self._characters + len(text) > self._max_characters:
                self._lost += 1
                self.dropped += 1
                return
            self._queue.append(text)
            self._characters += len(text)
            self._start()
            self._changed.notify_all()

    def flush(self, wait_s: float) -> bool:
        """Wait until everything queued so far is written, at most `wait_s`. Returns whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._busy, wait_s)

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="deltaforge-stderr", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._queue))
                self._busy = True
                text = self._queue.popleft()
                self._characters -= len(text)
                lost, self._lost = self._lost, 0
            _send(self._fd, f"{text}\n")
            if lost:
                _send(self._fd, f"deltaforge: {lost} log lines dropped, stderr was not read in time\n")


def _send(fd: int, text: str) -> None:
    rest = memoryview(text.encode("utf-8", "backslashreplace"))
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            # Someone made the terminal non-blocking; the thread may wait, the process does not.
            select.select([], [fd], [], 1.0)
        except OSError:
            return


_default = LineWriter()


def say(line: str) -> None:
    """One plain line for the operator on stderr, secrets covered."""
    _default.write(line)


def flush(wait_s: float = 1.0) -> bool:
    """Give stderr `wait_s` seconds to take what was said; call before the process ends."""
    return _default.flush(wait_s)
