"""`python -m deltaforge demo`, run as a newcomer runs it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from deltaforge.demo.pipeline import PIPELINE
from deltaforge.embedded.ports import HOST, accepts, free_ports
from tests.support.pipelines import seed, without_security
from tests.support.process import REPOSITORY, log_directory

if TYPE_CHECKING:
    from collections.abc import Iterator


def _start(folder: Path, port: int, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "deltaforge", "demo", "--api-addr", f"{HOST}:{port}", *arguments]
    with (folder / "output").open("wb") as output:
        environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(REPOSITORY)}
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=REPOSITORY, env=environment)


def _processes_of(folder: Path) -> list[str]:
    """Command lines of every process that was started with this folder for its temporary files."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in text:
            found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


@pytest.fixture
def folder(kafka_jars: None) -> Iterator[Path]:
    """Where the demo may put its files; no directory of pytest, for PostgreSQL's own account has to get through."""
    place = Path(tempfile.mkdtemp(prefix="test-demo-"))
    place.chmod(0o755)
    yield place
    shutil.copy(place / "output", log_directory() / "demo.log")
    shutil.rmtree(place)


def _gone(folder: Path) -> None:
    deadline = time.monotonic() + 30
    while _processes_of(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _processes_of(folder) == []
    assert [path.name for path in folder.iterdir()] == ["output"]


@pytest.mark.slow
def test_the_demo_shows_live_events_and_leaves_nothing(folder: Path) -> None:
    """Guards against a first impression that hangs, shows nothing, or leaves servers and files behind."""
    port = free_ports(1)[0]
    process = _start(folder, port, "--seconds", "10")
    assert process.wait(180) == 0, (folder / "output").read_text()
    output = (folder / "output").read_text()
    assert f"http://{HOST}:{port}/pipelines/orders-to-kafka-prod" in output
    assert re.search(r"\] +[cu] orders +id=\d+ +\{", output), output
    assert "that was the first event" in output
    made = re.search(r"made (\d+) records; the consumer saw (\d+)", output)
    assert made, output
    assert made[1] == made[2]
    assert int(made[1]) > 20
    assert "nobody must ever read this" not in output
    _gone(folder)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_a_demo_that_is_stopped_leaves_nothing(number: signal.Signals, folder: Path) -> None:
    """Guards against servers that outlive the terminal they were started from."""
    port = free_ports(1)[0]
    process = _start(folder, port)
    deadline = time.monotonic() + 120
    while not accepts(port):
        assert process.poll() is None, (folder / "output").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == (-number if number == signal.SIGKILL else 0)
    _gone(folder)


def test_the_demo_runs_the_pipeline_of_the_example() -> None:
    """Guards against a demo that shows something else than what the documentation explains."""
    assert yaml.safe_load(PIPELINE) == without_security(seed())
