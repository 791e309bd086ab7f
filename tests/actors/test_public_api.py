"""What users may rely on: the names, and that nothing but Trio is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import actors

ROOT = Path(actors.__file__).parent


def test_the_public_names_are_pinned() -> None:
    """A name that appears or vanishes by accident breaks every tree built on it."""
    expected = [
        "Action",
        "ActorContext",
        "ActorsError",
        "AutoShutdown",
        "AutoShutdownTriggered",
        "Backoff",
        "BudgetStatistics",
        "Cell",
        "ChildCrashed",
        "ChildExited",
        "ChildRestarting",
        "ChildRetrying",
        "ChildSpec",
        "ChildStarted",
        "ChildStatistics",
        "ChildStopped",
        "Decision",
        "Escalate",
        "Escalated",
        "Event",
        "Exit",
        "ExitKind",
        "IMMEDIATE",
        "INFINITY",
        "Kind",
        "Leased",
        "LoopWatchdog",
        "Mailbox",
        "MailboxStatistics",
        "Restart",
        "RestartIntensityExceeded",
        "RestartWindow",
        "Retry",
        "Shutdown",
        "SpecError",
        "StallDetected",
        "Stalled",
        "StartFailed",
        "StartTimedOut",
        "StopTimedOut",
        "Strategy",
        "Supervisor",
        "SupervisorSpec",
        "SupervisorStatistics",
        "UnexpectedCancellation",
        "UnexpectedReturn",
        "WeightBudget",
        "beat_here",
        "current_actor",
        "decide",
        "error_text",
        "waiting_here",
    ]
    assert sorted(actors.__all__) == expected
    assert all(hasattr(actors, name) for name in expected)


def test_it_imports_without_the_product_and_without_test_tools() -> None:
    """The library must be publishable alone; hypothesis is for the users' tests only."""
    code = (
        "import sys\n"
        "sys.modules['deltaforge'] = None\n"
        "import actors, actors.testing\n"
        "assert 'hypothesis' not in sys.modules and 'pytest' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, check=True)


def test_no_file_and_no_function_is_too_long() -> None:
    """Long files are where state machines go to hide."""
    import ast

    for path in ROOT.glob("*.py"):
        source = path.read_text()
        assert len(source.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = body[-1].end_lineno - body[0].lineno + 1 if body else 1  # type: ignore[operator]
                assert lines <= 40, f"{path.name}:{node.name} has {lines} lines"
