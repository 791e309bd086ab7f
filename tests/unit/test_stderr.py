"""Lines to stderr: in order, covered, and never a reason to wait."""

from __future__ import annotations

import os
import threading

import pytest

from deltaforge.config.secret import register
from deltaforge.stderr import LineWriter


@pytest.fixture
def pipe() -> tuple[int, int]:
    # Never closed: a writer that is still blocked would write into whatever gets the same number next.
    return os.pipe()


def _read_until(fd: int, end: bytes) -> bytes:
    data = b""
    while end not in data:
        data += os.read(fd, 65536)
    return data


def test_lines_arrive_in_order_with_secrets_covered(pipe: tuple[int, int]) -> None:
    """Guards against a password on the terminal, and a log that has to be sorted."""
    register("open-sesame-77")
    writer = LineWriter(pipe[1])

    writer.write("first open-sesame-77 line")
    writer.write("second")

    assert _read_until(pipe[0], b"second\n") == b"first *** line\nsecond\n"


def test_a_line_cannot_steer_the_terminal(pipe: tuple[int, int]) -> None:
    """Guards against escape sequences from a server's message that rewrite what the operator sees."""
    writer = LineWriter(pipe[1])

    writer.write("a\x1b[2Jb\rc\x00d")

    assert _read_until(pipe[0], b"\n") == b"a\\x1b[2Jb\\x0dc\\x00d\n"


@pytest.mark.fault("C5")
def test_nobody_reading_costs_no_time_and_is_told_afterwards(pipe: tuple[int, int]) -> None:
    """Guards against a pipeline that stands still because a log pipe is full."""
    # GIVEN a pipe that nobody reads, and room for ten lines
    writer = LineWriter(pipe[1], lines=10)
    line = "x" * 70_000

    # WHEN a hundred lines are written, each more than the pipe holds
    for _ in range(100):
        writer.write(line)

    # THEN writing went on, and the reader learns how much is missing once it reads
    assert writer.dropped >= 89
    assert not writer.flush(0.05)
    assert b"log lines dropped" in _read_until(pipe[0], b"dropped, stderr")


@pytest.mark.fault("C5")
def test_the_queue_is_bounded_in_characters(pipe: tuple[int, int]) -> None:
    """Guards against memory that grows with the length of lines nobody reads."""
    writer = LineWriter(pipe[1], characters=100_000)

    for _ in range(20):
        writer.write("y" * 70_000)

    assert writer.dropped >= 17


def test_flush_waits_for_what_was_said(pipe: tuple[int, int]) -> None:
    """Guards against a last line that is lost at the end of the process."""
    writer = LineWriter(pipe[1])
    writer.write("the last word")

    assert writer.flush(10.0)
    assert os.read(pipe[0], 100) == b"the last word\n"


@pytest.mark.fault("C5")
def test_a_reader_that_is_gone_ends_nothing(pipe: tuple[int, int]) -> None:
    """Guards against a process killed by a closed pipe (`deltaforge ... 2>&1 | head`)."""
    writer = LineWriter(pipe[1])
    os.close(pipe[0])

    writer.write("to nobody")

    assert writer.flush(10.0)


def test_many_threads_may_write(pipe: tuple[int, int]) -> None:
    """Guards against lines torn apart by a second thread."""
    writer = LineWriter(pipe[1])
    threads = [threading.Thread(target=writer.write, args=(f"<{n}>" * 50,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.write("end")

    lines = _read_until(pipe[0], b"end\n").decode().splitlines()

    assert sorted(lines[:-1]) == sorted(f"<{n}>" * 50 for n in range(20))
