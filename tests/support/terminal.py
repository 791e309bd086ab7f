"""A user's terminal: runs blocks of a page with bash, in a directory that looks like a clone of the repository.

What stands for something that the page takes for granted is in `SHIMS`: a program of that name on the PATH.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from deltaforge.embedded.binaries import find_bin_dir
from deltaforge.embedded.jars import class_path, java
from tests.support.orders import wait_until
from tests.support.process import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

STOP_S = 60.0
# A virtual environment with the packages of this test run: what pip would fetch is there already.
_VENV = """\
[ "$1 $2" = "-m venv" ] || exec {python} "$@"
mkdir -p "$3/bin"
for name in python python3; do printf '#!/bin/sh\\nexec {python} "$@"\\n' > "$3/bin/$name"; done
printf '#!/bin/sh\\n' > "$3/bin/pip"
chmod +x "$3"/bin/*
printf 'PATH=%s/bin:$PATH\\n' "$(realpath "$3")" > "$3/bin/activate"
"""
_TOOL = 'exec {java} -Xmx256m -XX:TieredStopAtLevel=1 -cp "{jars}" {main} "$@"\n'
_CURL = """\
exec {python} -c "
import sys, urllib.request
asked = urllib.request.Request(sys.argv[-1])
if '@-' in sys.argv:
    asked.add_header(*sys.stdin.read().strip().split(': '))
print(urllib.request.urlopen(asked).read().decode())
" "$@"
"""
SHIMS = {
    "python3": _VENV,
    "python": 'exec {python} "$@"\n',
    "psql": 'exec {postgres}/psql "$@"\n',
    "curl": _CURL,
    "kafka-topics.sh": _TOOL.replace("{main}", "org.apache.kafka.tools.TopicCommand"),
    "kafka-console-consumer.sh": _TOOL.replace("{main}", "org.apache.kafka.tools.consumer.ConsoleConsumer"),
}


class Terminal:
    """One directory, one environment; `run` and `start` are the user pressing Enter."""

    def __init__(self, directory: Path, environment: Mapping[str, str], changes: Sequence[tuple[str, str]]) -> None:
        """`changes`: texts of the pages, and what stands for them here."""
        self.directory, self._changes = directory, changes
        shims = directory / "shims"
        shims.mkdir(parents=True)
        words = {
            "python": sys.executable,
            "java": java(),
            "jars": os.pathsep.join(map(str, class_path())),
            "postgres": find_bin_dir(18),
        }
        for name, text in SHIMS.items():
            for word, value in words.items():
                text = text.replace(f"{{{word}}}", str(value))
            (shims / name).write_text("#!/bin/sh\n" + text)
            (shims / name).chmod(0o755)
        shutil.copytree(REPOSITORY / "examples", directory / "examples")
        self._environment = {
            **{key: os.environ[key] for key in ("HOME", "LD_LIBRARY_PATH") if key in os.environ},
            "PATH": f"{shims}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            **environment,
        }
        self._started: list[Running] = []

    def run(self, text: str, seconds: float = 120.0) -> str:
        """Run a block to its end and return what it wrote. Raises AssertionError when it fails."""
        running = self.start(text)
        code = running.wait(seconds)
        assert code == 0, f"{code}\n{running.output()}"
        return running.output()

    def start(self, text: str) -> Running:
        """Run a block in the background."""
        for written, here in self._changes:
            text = text.replace(written, here)
        running = Running(text, self.directory / f"output-{len(self._started)}", self.directory, self._environment)
        self._started.append(running)
        return running

    def close(self) -> None:
        """End everything that was started here."""
        for running in self._started:
            running.kill()


class Running:
    """A block under way, in a process group of its own."""

    def __init__(self, script: str, output: Path, directory: Path, environment: Mapping[str, str]) -> None:
        self._file, self._script = output, script
        with output.open("wb") as sink:
            self._process = subprocess.Popen(
                ["bash", "-ec", script],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env=dict(environment),
                start_new_session=True,
            )

    def output(self) -> str:
        """What it wrote so far."""
        return self._file.read_text(errors="replace")

    def wait_for(self, *words: str) -> None:
        """Block until it has written all of these. Raises AssertionError when it ends or takes too long."""
        try:
            wait_until(lambda: all(word in self.output() for word in words), f"{words} of {self._script}", self.alive)
        except AssertionError as error:
            error.add_note(self.output())
            raise

    def alive(self) -> None:
        """Raises AssertionError when it has ended."""
        assert self._process.poll() is None, f"ended with {self._process.poll()}:\n{self._script}\n{self.output()}"

    def wait(self, seconds: float = STOP_S) -> int:
        """Wait for its end; the exit code."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds:.0f} s:\n{self._script}\n{self.output()}") from None

    def ctrl_c(self) -> int:
        """What a terminal does on Ctrl-C: SIGINT to the whole group. Returns the exit code."""
        self.alive()
        os.killpg(self._process.pid, signal.SIGINT)
        return self.wait()

    def kill(self) -> None:
        """End the group."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(STOP_S)
