"""One server process under its guard: start, wait, signal, read the end of its log.

Synchronous, so that session fixtures can use it; the waits look at `abort` every `POLL_S` and so end early when a
Trio caller is cancelled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from deltaforge.embedded.errors import EmbeddedError, ServerDied, StartAborted

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping, Sequence

POLL_S = 0.03
KILL_S = 30.0
_GUARD = Path(__file__).with_name("guard.py")
_TAIL_LINES = 25
_TAIL_BYTES = 16_384


class ServerProcess:
    """A running server. It ends when this process ends, also by SIGKILL."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        death_signal: signal.Signals = signal.SIGKILL,
        user: str = "",
        cleanup: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start the command at once, its output appended to `log`, in a session of its own.

        Args:
          death_signal: what the server gets when this process is gone.
          user: run as this account; needs root.
          cleanup: directory removed when this process is gone.
        """
        self.name = name
        self.log = log
        guarded = [sys.executable, "-I", "-S", str(_GUARD), str(int(death_signal)), user, str(cleanup or ""), *command]
        with log.open("ab") as output:
            self._guard = subprocess.Popen(  # noqa: S603 - our own program
                guarded,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
                env=None if environment is None else dict(environment),
            )
        assert self._guard.stdout is not None
        with self._guard.stdout as first_line:
            text = first_line.readline()
        if not text.strip():
            self._close()
            raise ServerDied(f"{name} could not be executed: {self.tail()}")
        self.pid = int(text)

    @property
    def running(self) -> bool:
        """Whether the server lives."""
        if self._guard.poll() is None:
            return True
        self._close()
        return False

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the server; nothing happens when it has ended."""
        # The guard reaps the server, and lives as long: while it runs the process id cannot be another's.
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, seconds: float) -> bool:
        """Wait for the end of the server; false when it still runs after so many seconds."""
        try:
            self._guard.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._close()
        return True

    def stop(self, number: signal.Signals, grace_s: float) -> bool:
        """Ask with a signal, wait, then SIGKILL; false when SIGKILL was needed."""
        self.send_signal(number)
        if self.wait(grace_s):
            return True
        self.kill()
        return False

    def kill(self) -> None:
        """End the server and its children with SIGKILL, stopped or not, and wait until they are gone."""
        children = _children(self.pid) if self.running else []
        self.send_signal(signal.SIGKILL)
        if not self.wait(KILL_S):
            raise EmbeddedError(f"{self.name} (process {self.pid}) does not end after SIGKILL")
        # A PostgreSQL backend at work notices the postmaster's death late; until then the server cannot start again.
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        deadline = time.monotonic() + KILL_S
        while any(Path(f"/proc/{child}").exists() for child in children):
            if time.monotonic() > deadline:
                raise EmbeddedError(f"children of {self.name} outlive it")
            time.sleep(POLL_S)

    def tail(self) -> str:
        """The last lines of the log."""
        return tail(self.log)

    def _close(self) -> None:
        assert self._guard.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._guard.stdin.close()
        self._guard.wait()


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def tail(log: Path) -> str:
    """The last lines of a log file, empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join(lines[-_TAIL_LINES:])


def wait_until(
    ready: Callable[[], bool], processes: Sequence[ServerProcess], abort: threading.Event, seconds: float, what: str
) -> None:
    """Poll until `ready` says yes.

    Raises:
      ServerDied: one of the processes ended; with the end of its log.
      StartAborted: `abort` was set.
      EmbeddedError: not ready in time; with the end of the first log.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        for process in processes:
            if not process.running:
                raise ServerDied(f"{process.name} ended while starting:\n{process.tail()}")
        if abort.wait(POLL_S):
            raise StartAborted(f"{what}: start aborted")
        if time.monotonic() > deadline:
            raise EmbeddedError(f"{what} is not ready after {seconds:.0f} s:\n{processes[0].tail()}")
