"""Core files: what a signal may write of a process's memory, in which there are passwords and rows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fault.sizes import FULL, SEED
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
DEADLY = (signal.SIGQUIT, signal.SIGABRT, signal.SIGSEGV)
PATTERN = Path("/proc/sys/kernel/core_pattern").read_text()
here = pytest.mark.skipif(PATTERN.startswith(("|", "/")), reason=f"core files go elsewhere on this machine: {PATTERN}")
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


@pytest.mark.parametrize("number", DEADLY if FULL else DEADLY[SEED % len(DEADLY) :][:1], ids=lambda number: number.name)
def test_a_process_that_is_killed_leaves_no_core_file(product: Deltaforge, home: Path, number: signal.Signals) -> None:
    """Guards against a file with every password and row that was in memory."""
    limits = Path(f"/proc/{product.pid}/limits").read_text()
    (allowed,) = (line.split()[4] for line in limits.splitlines() if line.startswith("Max core file size"))
    assert allowed == "0"
    assert int(Path(f"/proc/{product.pid}/coredump_filter").read_text(), 16) == 0

    os.kill(product.pid, number)

    assert product.wait() == -number
    assert list(home.iterdir()) == []


@here
def test_a_core_file_that_is_written_all_the_same_holds_no_password(product: Deltaforge, home: Path) -> None:
    """Guards against programs that collect core files and do not ask for the limit, and against an operator's own."""
    subprocess.run(["prlimit", f"--pid={product.pid}", "--core=unlimited"], check=True, timeout=WAIT_S)
    os.kill(product.pid, signal.SIGQUIT)

    assert product.wait() == -signal.SIGQUIT
    assert list(home.iterdir()) != []
    assert not leaking_files(home)


@here
def test_the_search_finds_a_password_in_a_core_file(home: Path) -> None:
    """Guards against a machine that writes no core files, on which the tests above could not fail."""
    command = [*UNLIMITED, sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGQUIT)"]

    done = subprocess.run(command, cwd=home, env=SERVERS, timeout=WAIT_S, check=False)

    assert done.returncode == -signal.SIGQUIT
    assert leaking_files(home)
