"""When memory goes back to the system, that it does, and how many heaps there are."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from deltaforge.memory import Tidying, give_back

MIB = 1024 * 1024
REPOSITORY = Path(__file__).resolve().parents[2]


def test_memory_is_given_back_once_a_busy_time_is_over() -> None:
    """Guards against pages that a running stream has to get again, and against none given back at all."""
    tidying = Tidying()
    # WHEN nothing has happened, or much arrives THEN it is not the time
    assert not tidying.due(0, epoch=0, nbytes=MIB - 1, per_second=0)
    assert not tidying.due(1, epoch=0, nbytes=100 * MIB, per_second=2 * MIB)
    # WHEN that is over THEN it is, once
    assert tidying.due(2, epoch=0, nbytes=100 * MIB, per_second=MIB / 2)
    assert not tidying.due(100, epoch=0, nbytes=101 * MIB, per_second=MIB / 2)


def test_what_little_a_stream_used_is_given_back_once_it_is_idle() -> None:
    """Guards against an idle process that keeps what the end of a busy time needed."""
    tidying = Tidying()
    assert tidying.due(0, epoch=0, nbytes=100 * MIB, per_second=0)
    assert not tidying.due(100, epoch=0, nbytes=102 * MIB, per_second=MIB / 2)
    assert not tidying.due(100, epoch=0, nbytes=100 * MIB + 1, per_second=0)
    assert tidying.due(100, epoch=0, nbytes=102 * MIB, per_second=0)
    assert not tidying.due(200, epoch=0, nbytes=102 * MIB, per_second=0)


def test_memory_is_given_back_after_an_epoch_that_was_thrown_away() -> None:
    """Guards against faults that each leave some memory behind, and against work every second while they last."""
    tidying = Tidying()
    assert tidying.due(0, epoch=1, nbytes=0, per_second=0)
    assert not tidying.due(59, epoch=2, nbytes=0, per_second=0)
    assert tidying.due(60, epoch=2, nbytes=0, per_second=0)
    assert not tidying.due(200, epoch=2, nbytes=0, per_second=0)


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_is_free_between_what_is_used_goes_back() -> None:
    """Guards against a C library that keeps it."""
    # WHEN much is freed, but not the last piece of it
    pieces = [bytes(10_000) for _ in range(10_000)]
    used = _resident()
    last = pieces[-1]
    del pieces
    give_back()
    # THEN most of it is the system's again
    assert used - _resident() > 50 * MIB
    assert len(last) == 10_000


HEAPS = """
import ctypes, sys, threading
from deltaforge.memory import share_heaps
share_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
libc.fopen.argtypes, libc.malloc.argtypes = (ctypes.c_char_p, ctypes.c_char_p), (ctypes.c_size_t,)
libc.malloc_info.argtypes, libc.fclose.argtypes = (ctypes.c_int, ctypes.c_void_p), (ctypes.c_void_p,)
together = threading.Barrier(6)
def allocate():
    libc.malloc(1000)
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
out = libc.fopen(sys.argv[1].encode(), b"w")
libc.malloc_info(0, out)
libc.fclose(out)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have other heaps")
@pytest.mark.parametrize(("chosen", "heaps"), [({}, 2), ({"MALLOC_ARENA_MAX": "4"}, 4)])
def test_threads_share_heaps_unless_the_operator_chose(tmp_path: Path, chosen: dict[str, str], heaps: int) -> None:
    """Guards against bursts that each leave memory in the heap of another thread."""
    kept = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    command = [sys.executable, "-c", HEAPS, str(tmp_path / "heaps")]
    subprocess.run(command, env=kept | chosen, cwd=REPOSITORY, check=True, timeout=60)
    assert (tmp_path / "heaps").read_text().count("<heap nr=") == heaps
