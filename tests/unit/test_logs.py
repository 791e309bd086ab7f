"""Log lines: their form, and that no secret is in them, however it got there. Each test runs a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SECRET = 'pa"ss\\wörd 42%'
HEAD = f"""
import logging, sys, threading, warnings
from deltaforge import logs, stderr
from deltaforge.config.secret import Secret
secret = Secret({SECRET!r}).reveal()
log = logs.get_logger("deltaforge.test")
"""


def _run(body: str, form: str = "json", level: str = "info") -> str:
    code = f"{HEAD}\nlogs.configure({form!r}, {level!r})\n{body}\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=REPOSITORY)
    assert done.stdout == ""
    return done.stderr


def _assert_covered(text: str) -> None:
    spellings = (SECRET, repr(SECRET)[1:-1], json.dumps(SECRET)[1:-1], json.dumps(repr(SECRET))[2:-2])
    for spelling in (*spellings, "ss\\\\w", "rd 42%"):
        assert spelling not in text


LEAKS = {
    "an event": "log.info(f'text {secret} text')",
    "a value": "log.info('x', value=secret)",
    "a nested value": "log.info('x', value={'deep': [1, (secret,)], secret: 1})",
    "an object's text": "log.info('x', value=ValueError(secret))",
    "an object's repr": "log.info('x', value=[ValueError(secret)])",
    "a bound value": "log.bind(who=secret).info('x')",
    "a traceback": "try:\n    raise ValueError(secret)\nexcept ValueError:\n    log.exception('x')",
    "a chained traceback": (
        "try:\n    try:\n        raise ValueError(secret)\n    except ValueError as e:\n"
        "        raise OSError(repr(e)) from e\nexcept OSError:\n    log.exception('x')"
    ),
    "an exception group": "log.error('x', exc_info=ExceptionGroup('g', [ValueError(secret)]))",
    "the standard library": "logging.getLogger('quart').warning('text %s', secret)",
    "its traceback": (
        "try:\n    raise ValueError(secret)\n"
        "except ValueError:\n    logging.getLogger('hypercorn.error').exception('x')"
    ),
    "a warning": "warnings.warn(secret)",
    "a thread's crash": ("def f():\n    raise ValueError(secret)\nt = threading.Thread(target=f)\nt.start()\nt.join()"),
    "an unraisable error": "class D:\n    def __del__(self):\n        raise ValueError(secret)\nD()",
    "a crash": "raise ValueError(secret)",
    "a plain line": "stderr.say('line ' + secret)",
}


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("way", LEAKS)
def test_a_secret_is_covered_in(way: str, form: str) -> None:
    """Guards against passwords in logs: one planted leak for every way to stderr."""
    text = _run(LEAKS[way], form)

    assert "***" in text
    _assert_covered(text)


def test_the_search_for_the_secret_would_find_it() -> None:
    """Guards against a canary test that cannot fail: without the cover, the same search sees the secret."""
    text = _run("logs.redact = lambda text: text; stderr.redact = lambda text: text\nlog.info('x', value=secret)")

    with pytest.raises(AssertionError):
        _assert_covered(text)


def test_every_json_line_is_one_object() -> None:
    """Guards against a traceback or a line break that a log collector takes for several events."""
    text = _run("log.info('hello', n=1, text='a\\nb')\n" + LEAKS["a traceback"])

    events = [json.loads(line) for line in text.splitlines()]

    assert list(events[0])[:4] == ["timestamp", "level", "logger", "event"]
    assert (events[0]["event"], events[0]["n"], events[0]["text"]) == ("hello", 1, "a\nb")
    assert (events[1]["level"], events[1]["logger"]) == ("error", "deltaforge.test")
    assert events[1]["exception"].startswith("Traceback")


def test_a_text_line_stays_one_line() -> None:
    """Guards against a server's message that looks like an event of its own."""
    text = _run("log.info('hello', text='a\\n2026-01-01 [info] forged')", "text")

    assert len(text.splitlines()) == 1
    assert "text=" in text


def test_local_variables_stay_out_of_tracebacks() -> None:
    """Guards against row values in a crash report."""
    body = (
        "def f():\n    row = 'row-' + 'value'\n    raise ValueError('x')\n"
        "try:\n    f()\nexcept ValueError:\n    log.exception('x')"
    )

    assert "row-value" not in _run(body, "text")


def test_the_level_holds_for_loggers_made_before() -> None:
    """Guards against a level that only later imports obey."""
    text = _run("log.info('quiet')\nlog.warning('loud')\nlogging.getLogger('x').info('quiet too')", level="warning")

    assert [json.loads(line)["event"] for line in text.splitlines()] == ["loud"]


def test_a_position_prints_as_postgresql_writes_it() -> None:
    """Guards against an LSN that comes out as a bare number."""
    text = _run("from deltaforge.model import Lsn\nlog.info('x', lsn=Lsn(0x16B374D848))")

    assert json.loads(text)["lsn"] == "16/B374D848"


def test_infinity_stays_json() -> None:
    """Guards against a line that a strict JSON reader refuses."""
    assert json.loads(_run("log.info('x', n=float('inf'))"))["n"] == "inf"


def test_importing_the_logs_changes_nothing_outside() -> None:
    """Guards against a library that reconfigures the program which embeds it."""
    code = (
        "import logging, sys, structlog\nimport deltaforge.logs\nassert not structlog.is_configured()\n"
        "assert not logging.getLogger().handlers\nassert sys.excepthook is sys.__excepthook__"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=REPOSITORY)
