"""Core files: what a signal may write of a process's memory, in which there are passwords and rows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fault.sizes import FULL
from tests.support.canaries import canary, leaking_files
from tests.support.orders import wait_until
from tests.support.pipelines import local, write
from tests.support.process import Deltaforge

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVERS = {
    "POSTGRES_DSN": f"postgresql://cdc:{canary('DSN of a core file')}@127.0.0.1:1/orders",
    "KAFKA_BROKERS": "127.0.0.1:1",
}
PATTERN = Path("/proc/sys/kernel/core_pattern").read_text()
WRITES_HERE = not PATTERN.startswith(("|", "/"))
UNLIMITED = ["prlimit", "--core=unlimited"]
WAIT_S = 60.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where a process of a test leaves its core file, unless the kernel has another place for them."""
    (made := tmp_path / "home").mkdir()
    return made


@pytest.fixture
def product(home: Path, tmp_path: Path) -> Iterator[Deltaforge]:
    """A pipeline with a password that waits for its servers, and that was allowed to write core files."""
    file = write(tmp_path / "pipeline.yaml", local("core", "core.events"))
    with Deltaforge(file, SERVERS, wrapper=["env", "-C", str(home), *UNLIMITED], name="core-files") as made:
        wait_until(lambda: made.ask("/pipelines/core")[0] == 200, "the admin HTTP answers", lambda: None)
        yield made


def test_a_running_process_may_not_write_its_memory_to_a_disk(product: Deltaforge, home: Path) -> None:
    """Guards against core files, and against the programs that collect them and do not ask for the limit."""
    limits = Path(f"/proc/{product.pid}/limits").read_text()
    (allowed,) = (line.split()[4] for line in limits.splitlines() if line.startswith("Max core file size"))
    kinds = Path(f"/proc/{product.pid}/coredump_filter").read_text()
    assert product.running, product.tail()
    assert allowed == "0"
    assert int(kinds, 16) == 0

    # What such a program is given, the operator gets here by raising the limit.
    subprocess.run(["prlimit", f"--pid={product.pid}", "--core=unlimited"], check=True, timeout=WAIT_S)
    os.kill(product.pid, signal.SIGQUIT)

    assert product.wait() == -signal.SIGQUIT
    assert bool(list(home.iterdir())) == WRITES_HERE
    assert not leaking_files(home)


# The limit is the same for all signals, so that one test of the quick size tells.
if FULL:

    @pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGABRT, signal.SIGSEGV], ids=lambda number: number.name)
    def test_a_process_that_is_killed_leaves_no_core_file(
        product: Deltaforge, home: Path, number: signal.Signals
    ) -> None:
        """Guards against a file with every password and row that was in memory."""
        os.kill(product.pid, number)

        assert product.wait() == -number
        assert list(home.iterdir()) == []


@pytest.mark.skipif(not WRITES_HERE, reason=f"core files go elsewhere on this machine: {PATTERN}")
def test_the_search_finds_a_password_in_a_core_file(home: Path) -> None:
    """Guards against a machine that writes no core files, on which the tests above could not fail."""
    command = [*UNLIMITED, sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGQUIT)"]

    done = subprocess.run(command, cwd=home, env=SERVERS, timeout=WAIT_S, check=False)

    assert done.returncode == -signal.SIGQUIT
    assert leaking_files(home)
