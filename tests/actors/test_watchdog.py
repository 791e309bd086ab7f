"""The watchdog of the event loop; real time, because it lives in a thread."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trio
import trio.testing

import actors
from actors import ActorContext, LoopWatchdog, SpecError
from actors.watchdog import dump_and_exit


def test_silence_is_a_length_of_time() -> None:
    """Guards against a watchdog that kills a healthy process at once."""
    with pytest.raises(SpecError):
        LoopWatchdog(0)


async def test_a_blocked_loop_is_noticed_once_per_silence() -> None:
    """Guards against a hang that nobody sees, and a dump repeated until the disk is full."""
    calls: list[float] = []
    noticed, over = threading.Semaphore(0), threading.Event()

    def note(silent_s: float) -> None:
        calls.append(silent_s)
        noticed.release()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(LoopWatchdog(0.05, note).run)
        await trio.testing.wait_all_tasks_blocked()
        # Block the loop until the thread has spoken, then a few ticks longer: it must not speak again.
        assert noticed.acquire(timeout=30)
        over.wait(0.1)
        assert len(calls) == 1
        await trio.sleep(0.1)
        assert noticed.acquire(timeout=30)
        nursery.cancel_scope.cancel(reason="test")
    assert min(calls) > 0.05


class _Ticks(threading.Event):
    """The watchdog's own clock: each wait takes as long as it is told."""

    def __init__(self, *took_s: float) -> None:
        super().__init__()
        self.now, self._took_s = 1000.0, list(took_s)

    def wait(self, timeout: float | None = None) -> bool:
        if not self._took_s:
            return True
        self.now += self._took_s.pop(0)
        return False


@pytest.mark.parametrize(
    ("took_s", "spoken"), [((7.5, 600.0, 7.5), 0), ((7.5,) * 5, 1), ((7.5,) * 30, 1), ((7.5, 600.0, 7.5, 7.5), 1)]
)
def test_time_for_which_the_whole_process_was_stopped_is_no_silence(
    took_s: tuple[float, ...], spoken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a process that is ended for having been frozen, the moment it wakes up."""
    ticks, calls = _Ticks(*took_s), list[float]()
    monkeypatch.setattr("actors.watchdog.time.monotonic", lambda: ticks.now)
    watchdog = LoopWatchdog(30.0, calls.append)
    watchdog._turned_at = ticks.now
    watchdog._watch(ticks)
    assert len(calls) == spoken


async def test_as_a_child_it_says_that_it_is_ready_and_obeys_a_stop() -> None:
    """Guards against a watchdog that uses up its grace at every stop."""
    ctx = ActorContext("watchdog")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(LoopWatchdog(1000.0).run, ctx)
            await trio.testing.wait_all_tasks_blocked()
            assert ctx.is_started
            ctx.stopping.set()


def test_the_default_action_dumps_before_it_exits(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Guards against an exit that leaves no trace."""
    monkeypatch.setattr("os._exit", sys.exit)
    with pytest.raises(SystemExit) as caught:
        dump_and_exit(31.0)
    assert caught.value.code == 1
    assert "event loop silent for 31 s" in capfd.readouterr().err


def test_by_default_a_silent_loop_dumps_all_stacks_and_ends_the_process() -> None:
    """Guards against a process that hangs for ever and looks alive to its supervisor."""
    code = (
        "import time, trio.testing, actors\n"
        "async def main():\n"
        "    async with trio.open_nursery() as nursery:\n"
        "        nursery.start_soon(actors.LoopWatchdog(0.1).run)\n"
        "        await trio.testing.wait_all_tasks_blocked()\n"
        "        time.sleep(60)\n"
        "trio.run(main)\n"
    )
    root = Path(actors.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=50)
    assert done.returncode == 1
    assert "event loop silent" in done.stderr
    assert "in main" in done.stderr
