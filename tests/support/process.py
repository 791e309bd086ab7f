"""deltaforge as its users run it: a process of its own, looked at from outside.

    with Deltaforge(file, environment) as product:
        product.wait_ready()
        product.kill9()
        product.start()
        ...
        assert product.term() == 0

Everything every process writes is kept in one directory of the test session (`log_directory`), where a later test can
look for secrets.
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from deltaforge.embedded.ports import HOST, free_ports

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REPOSITORY = Path(__file__).resolve().parents[2]
READY_S = 60.0
STOP_S = 60.0
_CRASH = "Fatal Python error"
_numbers = itertools.count(1)
_created: list[Path] = []


def log_directory() -> Path:
    """Where the output of all processes of this session is kept: `$DELTAFORGE_TEST_LOGS`, else a temporary one."""
    if named := os.environ.get("DELTAFORGE_TEST_LOGS"):
        Path(named).mkdir(parents=True, exist_ok=True)
        return Path(named)
    if not _created:
        _created.append(Path(tempfile.mkdtemp(prefix="deltaforge-test-logs-")))
        atexit.register(shutil.rmtree, _created[0], ignore_errors=True)
    return _created[0]


class Deltaforge:
    """One command line, started as often as the test likes."""

    def __init__(
        self,
        file: Path,
        environment: Mapping[str, str],
        *,
        arguments: Sequence[str] = (),
        wrapper: Sequence[str] = (),
        name: str = "run",
    ) -> None:
        """Nothing runs before `start`.

        Args:
          environment: added to a small environment of our own.
          arguments: after the file.
          wrapper: a command that ends by executing its arguments.
          name: for the log file.
        """
        self.port = free_ports(1)[0]
        command = [sys.executable, "-m", "deltaforge", str(file), f"--api-addr={HOST}:{self.port}"]
        # Dies with the test run, also when that is killed.
        guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        self._command = [*guard, *wrapper, *command, *arguments]
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH") if key in os.environ}
        self._environment = {**kept, "PYTHONPATH": str(REPOSITORY), "PYTHONFAULTHANDLER": "1", **environment}
        self._cwd = REPOSITORY
        self.log = log_directory() / f"{next(_numbers):03d}-{name}.log"
        self._output = self.log
        self._process: subprocess.Popen[bytes] | None = None

    def run_from(self, source: Path, environment: Mapping[str, str]) -> None:
        """Take the product from another directory from the next start on, with more environment."""
        self._cwd = source
        self._environment |= {"PYTHONPATH": str(source), **environment}

    def listen_at(self, host: str) -> None:
        """Serve the admin endpoint at this address from the next start on, same port; `ask` goes to 127.0.0.1 still."""
        address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self._command = [f"--api-addr={address}" if part.startswith("--api-addr=") else part for part in self._command]

    def write_to(self, output: Path) -> None:
        """Let the next start's output go to another file, or pipe, which no method here reads."""
        self._output = output

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the process; its output is appended to `log`."""
        assert not self.running
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self._cwd,
            )

    def kill9(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._signal(signal.SIGKILL)
        self.wait()

    def term(self) -> int:
        """SIGTERM, and wait. Returns the exit code."""
        self._signal(signal.SIGTERM)
        return self.wait()

    def wait(self, seconds: float = STOP_S) -> int:
        """Wait for the end. Returns the exit code. Raises AssertionError with the end of the log when it stays."""
        assert self._process is not None
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds:.0f} s:\n{self.tail()}") from None

    def wait_ready(self, seconds: float = READY_S) -> None:
        """Wait until /ready says 200. Raises AssertionError with the end of the log when it does not."""
        deadline = time.monotonic() + seconds
        while (code := self.ask("/ready")[0]) != 200:
            if not self.running:
                raise AssertionError(f"ended with {self.wait()} instead of getting ready:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"/ready says {code} after {seconds:.0f} s:\n{self.tail()}")
            time.sleep(0.05)

    def ask(self, path: str, *, token: str = "") -> tuple[int, bytes]:
        """Status and body of a GET; status 0 when nobody answers."""
        request = urllib.request.Request(f"http://{HOST}:{self.port}{path}")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except OSError:
            return 0, b""

    def pipeline(self, name: str) -> dict[str, Any]:
        """The JSON of /pipelines/{name}. Raises AssertionError when it is not served."""
        status, body = self.ask(f"/pipelines/{name}")
        assert status == 200, f"/pipelines/{name} says {status}\n{self.tail()}"
        view = json.loads(body)
        assert isinstance(view, dict)
        return view

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels; 0 when it is known but has none yet.

        Raises AssertionError when there is no such metric.
        """
        _, body = self.ask("/metrics")
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        samples = [line.rpartition(" ") for line in body.decode().splitlines() if not line.startswith("#")]
        found = [
            float(v) for head, _, v in samples if head.partition("{")[0] == name and all(w in head for w in wanted)
        ]
        assert found or f"# TYPE {name} " in body.decode(), f"no metric {name} with {labels}"
        return sum(found)

    def rss(self) -> int:
        """Resident memory in bytes."""
        return self._memory("VmRSS")

    def peak_rss(self) -> int:
        """The most resident memory it ever had, in bytes."""
        return self._memory("VmHWM")

    def cpu_s(self) -> float:
        """Processor seconds used so far, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def text(self) -> str:
        """Everything it wrote so far."""
        return self.log.read_text(errors="replace")

    def tail(self, lines: int = 30) -> str:
        """The end of what it wrote; if the interpreter crashed, everything from shortly before."""
        written = self.text().splitlines()
        end = next((n for n, line in enumerate(written) if line.startswith(_CRASH)), len(written))
        return "\n".join(written[max(end - lines, 0) :])

    def close(self) -> None:
        """End it if it runs."""
        if self.running:
            self.kill9()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _signal(self, number: signal.Signals) -> None:
        assert self.running, f"already ended with {self.wait()}:\n{self.tail()}"
        os.kill(self.pid, number)

    def _memory(self, field: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith(f"{field}:"))
        return int(line.split()[1]) * 1024
