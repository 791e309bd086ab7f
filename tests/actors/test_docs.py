"""The docs page is true: every example runs and prints what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import actors
from actors import Event

ROOT = Path(actors.__file__).parent.parent
PAGE = (ROOT / "docs" / "actors.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", PAGE, re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_prints_what_the_page_says(number: int, tmp_path: Path) -> None:
    """Guards against documentation that rots."""
    code, expected = EXAMPLES[number]
    script = tmp_path / "example.py"
    script.write_text(code)
    run = [sys.executable, "-W", "error", str(script)]
    done = subprocess.run(run, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout == expected


def test_every_public_name_that_users_meet_is_on_the_page() -> None:
    """Guards against features nobody can find."""
    events = {kind.__name__ for kind in Event.__subclasses__()}
    shown = events | {"Mailbox", "Cell", "WeightBudget", "LoopWatchdog", "ChildSpec", "Backoff", "decide"}
    assert {name for name in shown if f"`{name}" not in PAGE} == set()
