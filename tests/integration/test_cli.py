"""The command line as its users call it: what it prints, and what it ends with. No servers are needed here."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "examples" / "kafka-prod.yaml"
WAIT_S = 60
ENVIRONMENT = {
    "POSTGRES_DSN": "postgres://user:dsn-password-canary@127.0.0.1:1/orders",
    "KAFKA_BROKERS": "127.0.0.1:1",
    "KAFKA_USERNAME": "deltaforge",
    "KAFKA_PASSWORD": "kafka-password-canary",
    "DELTAFORGE_API_TOKEN": "",
}
CANARIES = ("dsn-password-canary", "kafka-password-canary", "token-canary-0123")
BROKEN = """\
apiVersion: deltaforge/v1
kind: Pipeline
metadata:
  name: orders.prod
spec:
  source:
    type: postgres
    config:
      id: pg
      dsn: ${POSTGRES_DSN}
      slot: Orders
      publication: p
      tables: [public.orders]
      colour: kafka-password-canary
  sinks:
    - type: stdout
      config: {id: out, password: dsn-password-canary}
"""


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, **ENVIRONMENT, **more}


def _call(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deltaforge", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=WAIT_S, cwd=REPOSITORY, env=_environment(**more)
    )
    for canary in CANARIES:
        assert canary not in done.stdout + done.stderr
    return done


@pytest.fixture
def stdout_example(tmp_path: Path) -> Path:
    """A pipeline whose source is away for ever: port 1 answers nobody."""
    file = tmp_path / "orders.yaml"
    file.write_text((REPOSITORY / "examples" / "stdout.yaml").read_text())
    return file


@contextmanager
def _running(*arguments: str, **more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process, and the address of its admin HTTP once it listens."""
    command = [sys.executable, "-m", "deltaforge", *arguments, "--api-addr", "127.0.0.1:0", "--log-format", "json"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=REPOSITORY, env=_environment(**more)
    )
    try:
        assert process.stderr is not None
        address = next(filter(None, (re.search(r'"url": "http://([^"]+)"', line) for line in process.stderr)))
        yield process, address[1]
    finally:
        process.kill()
        process.communicate(timeout=WAIT_S)


def _wait_for(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    assert any(text in line for line in process.stderr), f"ended without saying {text!r}"


@pytest.mark.fault("C2")
def test_validate_prints_every_problem_in_file_order(tmp_path: Path) -> None:
    """Guards against fixing a file one error at a time."""
    file = tmp_path / "broken.yaml"
    file.write_text(BROKEN)

    done = _call("validate", str(file))

    lines = done.stdout.splitlines()
    places = [re.match(rf"{re.escape(str(file))}:(\d+):(\d+): ", line) for line in lines]
    assert done.returncode == 2
    assert len(lines) >= 4
    assert all(places)
    numbers = [(int(place[1]), int(place[2])) for place in places if place]
    assert numbers == sorted(numbers)
    assert {4, 11, 14, 17} <= {line for line, _ in numbers}


def test_validate_says_what_is_good() -> None:
    """Guards against silence that could mean anything."""
    done = _call("validate", str(EXAMPLE))

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{EXAMPLE}: pipeline orders-to-kafka-prod is valid\n"


def test_validate_looks_at_every_file_of_a_directory(tmp_path: Path) -> None:
    """Guards against a bad file that hides the others."""
    (tmp_path / "a.yaml").write_text(BROKEN)
    (tmp_path / "b.yaml").write_text(EXAMPLE.read_text())

    done = _call("validate", str(tmp_path))

    assert done.returncode == 2
    assert "a.yaml:4:" in done.stdout
    assert "b.yaml: pipeline orders-to-kafka-prod is valid" in done.stdout


@pytest.mark.fault("C2")
@pytest.mark.parametrize("form", [["{}"], ["run", "{}"], ["--config", "{}"], ["run", "--config", "{}"]])
def test_a_broken_file_is_not_started(tmp_path: Path, form: list[str]) -> None:
    """Guards against a pipeline that runs with half of what was written."""
    file = tmp_path / "broken.yaml"
    file.write_text(BROKEN)

    done = _call(*(part.format(file) for part in form))

    assert done.returncode == 2
    assert f"{file}:4:" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["validate"],
        ["run"],
        ["validate", "/nowhere/pipeline.yaml"],
        ["run", "a.yaml", "--config", "b.yaml"],
        [str(EXAMPLE), "--api-addr", "8080"],
        [str(EXAMPLE), "--api-addr", "127.0.0.1:99999"],
        [str(EXAMPLE), "--adopt-slot", "12345"],
        [str(EXAMPLE), "--grace", "-1"],
        [str(EXAMPLE), "--unknown"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_ends_with_2_and_a_line(arguments: list[str]) -> None:
    """Guards against a traceback for a typing error."""
    done = _call(*arguments)

    assert done.returncode == 2
    assert done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("typed", "meant"), [("validat", "validate"), ("dmeo", "demo"), ("version", "--version")])
def test_a_mistyped_command_is_not_taken_for_a_file(typed: str, meant: str) -> None:
    """Guards against a message about a file, or about arguments, where a word was mistyped."""
    done = _call(typed, str(EXAMPLE))

    assert done.returncode == 2
    assert done.stderr == f"deltaforge: there is no command and no file {typed} (did you mean {meant}?)\n"


def test_a_secret_in_the_place_of_a_key_is_covered(tmp_path: Path) -> None:
    """Guards against a password that a slip of the editor made a key, in a build log."""
    file = tmp_path / "slip.yaml"
    file.write_text(EXAMPLE.read_text().replace("slot:", "kafka-password-canary:"))

    done = _call("validate", str(file))

    assert done.returncode == 2
    assert "unknown key '***'" in done.stdout


@pytest.mark.parametrize("arguments", [["--version"], ["run", str(EXAMPLE)]])
def test_a_codec_that_does_not_exist_is_a_configuration_error(arguments: list[str]) -> None:
    """Guards against a slower codec than was asked for, without a word."""
    done = _call(*arguments, DELTAFORGE_CODEC="compield")
    assert done.returncode == 2
    assert done.stderr == (
        "deltaforge: DELTAFORGE_CODEC is 'compield' (set it to python or compiled, or leave it out)\n"
    )


def test_version_names_the_encoder(codec: str) -> None:
    """Guards against not knowing whether the slow or the fast encoder runs."""
    done = _call("--version")

    assert done.returncode == 0
    assert re.fullmatch(rf"deltaforge \d+\.\d+\.\d+\S* \({codec} encoder\)\n", done.stdout)


def test_log_and_metric_name_the_encoder(stdout_example: Path, codec: str) -> None:
    """Guards against a machine that runs the slow encoder for months before anybody looks."""
    with _running(str(stdout_example)) as (process, address):
        _wait_for(process, f'"sink": "orders-stdout", "encoder": "{codec}"')
        with urlopen(f"http://{address}/metrics", timeout=WAIT_S) as answer:
            text = answer.read().decode()
    assert re.search(rf'^deltaforge_build_info\{{encoder="{codec}",version="[^"]+"\}} 1\.0$', text, re.MULTILINE)


def test_a_taken_port_ends_the_start_with_one_line(stdout_example: Path) -> None:
    """Guards against pipelines that run while nobody can see them, and against a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = _call(str(stdout_example), "--api-addr", f"127.0.0.1:{port}")

    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"deltaforge: the admin HTTP cannot listen on 127.0.0.1 port {port}: Address already in use "
        "(stop what listens there, or choose another address with --api-addr HOST:PORT)"
    ]


def test_an_open_address_without_a_token_is_not_served(stdout_example: Path) -> None:
    """Guards against positions and errors for everybody in the network."""
    done = _call(str(stdout_example), "--api-addr", "0.0.0.0:0")

    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "DELTAFORGE_API_TOKEN" in done.stderr


def test_a_flag_for_one_pipeline_is_not_taken_for_several(tmp_path: Path) -> None:
    """Guards against a gap that is accepted in a pipeline nobody thought of."""
    (tmp_path / "a.yaml").write_text(EXAMPLE.read_text())
    (tmp_path / "b.yaml").write_text((REPOSITORY / "examples" / "stdout.yaml").read_text())

    done = _call(str(tmp_path), "--accept-gap", "0/1000", "--api-addr", "127.0.0.1:0")

    assert done.returncode == 2
    assert "one pipeline" in done.stderr


def _get(address: str, path: str) -> str:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=WAIT_S) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()


@pytest.mark.fault("P22")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_in_order_and_ends_with_0(stdout_example: Path, number: signal.Signals) -> None:
    """Guards against a container that is killed because it did not listen."""
    with _running(str(stdout_example)) as (process, address):
        assert "state" in _get(address, "/health")
        process.send_signal(number)

        _, rest = process.communicate(timeout=WAIT_S)

    assert process.returncode == 0, rest
    assert "Traceback" not in rest


@pytest.mark.fault("P22")
def test_a_second_signal_ends_at_once(stdout_example: Path) -> None:
    """Guards against an operator who has to look up the process id for kill -9."""
    # GIVEN a process whose drain would take longer than anybody waits
    with _running(str(stdout_example)) as (process, address):
        _get(address, "/health")
        process.send_signal(signal.SIGTERM)
        _wait_for(process, '"stopping"')

        # WHEN the second signal comes before the drain is over
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=WAIT_S)

    # THEN it is gone, unless it had drained by then
    assert process.returncode in (0, 128 + signal.SIGINT), rest


@pytest.mark.fault("C2")
def test_one_bad_file_of_a_directory_is_shown_and_the_others_run(stdout_example: Path) -> None:
    """Guards against a typing error that stops every other pipeline at the next start."""
    (stdout_example.parent / "broken.yaml").write_text(BROKEN)
    with _running(str(stdout_example.parent)) as (process, address):
        shown, listed, health = (_get(address, path) for path in ("/pipelines/broken", "/pipelines", "/health"))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=WAIT_S)

    assert '"state":"failed"' in shown
    assert "broken.yaml:4:" in shown
    assert '"orders-to-stdout"' in listed
    assert '"state":"degraded"' in health
    assert not any(canary in shown + listed + health for canary in CANARIES)
    assert process.returncode == 0


def test_no_secret_is_shown_anywhere(stdout_example: Path) -> None:
    """Guards against passwords and the token in answers, logs and the process list."""
    with _running(str(EXAMPLE), DELTAFORGE_API_TOKEN="token-canary-0123") as (process, address):
        answers = [_get(address, path) for path in ("/health", "/ready", "/metrics", "/pipelines")]
        listed = subprocess.run(["ps", "-ww", "-o", "args", "-p", str(process.pid)], capture_output=True, text=True)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=WAIT_S)

    assert "deltaforge" in listed.stdout
    for text in (*answers, listed.stdout, log):
        assert not any(canary in text for canary in CANARIES)


@pytest.mark.fault("C5")
def test_a_log_nobody_reads_does_not_keep_the_process_alive(stdout_example: Path) -> None:
    """Guards against a process that hangs because the other end of its log pipe does."""
    # GIVEN a process whose stderr is a full pipe that nobody reads
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 65536)
    os.set_blocking(writing, True)
    command = [sys.executable, "-m", "deltaforge", str(stdout_example), "--api-addr", "127.0.0.1:0", "--grace", "5"]
    process = subprocess.Popen(
        command, stderr=writing, stdout=subprocess.DEVNULL, cwd=REPOSITORY, env=_environment(PYTHONFAULTHANDLER="")
    )

    # WHEN it is asked to stop, once it handles signals
    try:
        _wait_until_signals_are_handled(process.pid)
        process.terminate()

        # THEN it ends in order
        assert process.wait(WAIT_S) == 0
    finally:
        process.kill()
        process.wait(WAIT_S)
        os.close(reading)
        os.close(writing)


def _wait_until_signals_are_handled(pid: int) -> None:
    """Until SIGTERM is in the mask of caught signals: the process has no other way to tell."""
    status = Path(f"/proc/{pid}/status")
    while True:
        caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status.read_text(), re.M)
        assert caught, "the process ended"
        if int(caught[1], 16) & 1 << (signal.SIGTERM - 1):
            return


CRASH = """
import sys
from deltaforge import cli, process
from deltaforge.config.secret import Secret

def broken(*arguments, **more):
    raise RuntimeError("cannot use postgres://user:" + "dsn-password" + "-canary@host")

cli.serve = broken
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_crash_at_the_top_prints_a_covered_traceback() -> None:
    """Guards against a bug report that cannot be shown to anybody, and against a bug that ends with 0."""
    done = subprocess.run(
        [sys.executable, "-c", CRASH, str(EXAMPLE)],
        capture_output=True, text=True, timeout=WAIT_S, cwd=REPOSITORY, env=_environment(),
    )  # fmt: skip

    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "postgres://user:***@host" in done.stderr
    assert not any(canary in done.stderr for canary in CANARIES)
