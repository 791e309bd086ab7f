"""The fuzz target still runs, watches and reports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fix_codecs import ROWS, WALK, extension

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """The short run takes the installed extensions."""
    extension(WALK)
    extension(ROWS)


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz", "--without-sanitizers", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=120)


@pytest.mark.fault("D5")
def test_a_short_run_finds_nothing_and_says_what_it_did() -> None:
    """Guards against a fuzz target that nobody can run any more."""
    done = fuzz("--minutes", "0.03")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "decoded to the end" in done.stdout
    assert "WRONG" not in done.stdout


def test_one_input_can_be_run_again() -> None:
    """Guards against a finding that cannot be repeated."""
    done = fuzz("--seed", "7", "--only", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "inputs 4 " in done.stdout


@pytest.mark.parametrize(
    ("code", "patience_s", "told"),
    [
        ("raise AssertionError('differs')", 60, "broke a rule"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 60, "the process ended with -11"),
        ("import time; time.sleep(600)", 1, "did not end within 1 s"),
    ],
    ids=["rule", "crash", "hang"],
)
def test_what_goes_wrong_is_told_with_the_input(code: str, patience_s: int, told: str) -> None:
    """Guards against a target that ends well whatever happens in it."""
    # A module that is run in place of the product's comparison.
    program = (
        "import sys, tests.fuzz.__main__ as main\n"
        f"main.HANG_S = {patience_s}\n"
        f"main.PROGRAM = ['-c', {PROGRAM.format(code=code)!r}]\n"
        "sys.argv[1:] = ['--without-sanitizers', '--seed', '1', '--minutes', '1']\n"
        "sys.exit(main.main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False, timeout=120
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert told in done.stdout
    assert "again: python -m tests.fuzz --seed 1 --only 0" in done.stdout


PROGRAM = """
import sys
from tests.support import agreement
def run(*unused):
    {code}
agreement.Pair.run = run
from tests.fuzz.target import main
main()
"""
