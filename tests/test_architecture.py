"""The structure, held by tests: who may import whom, how large a file may be, which drivers live where."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import deltaforge

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = sorted([*ROOT.glob("actors/**/*.py"), *ROOT.glob("deltaforge/**/*.py")])

EVERYBODY = {"model", "position", "errors", "failpoints", "metrics", "status", "runtime", "logs", "stderr", "runs",
             "twin", "patterns", ""}  # fmt: skip
"""What any stage may know."""
PURE = (
    "deltaforge/model.py", "deltaforge/patterns.py", "deltaforge/runs.py", "deltaforge/position.py",
    "deltaforge/errors.py",
    "deltaforge/pgoutput/",
    "deltaforge/envelopes/", "deltaforge/transactions/assembler.py", "deltaforge/batcher/policy.py",
    "deltaforge/checkpoint/policy.py", "deltaforge/checkpoint/record.py", "deltaforge/sinks/kafka/grouping.py",
    "deltaforge/sinks/kafka/partition.py", "deltaforge/sinks/kafka/faults.py", "deltaforge/sinks/kafka/client_conf.py",
    "deltaforge/source/frames.py", "deltaforge/source/tables.py",
)  # fmt: skip
IMPURE = {"trio", "trio_asyncio", "actors", "psycopg", "confluent_kafka", "quart", "quart_trio", "hypercorn", "socket"}
MAY_READ = {
    # room: other rooms it may import, beside what everybody may know
    "config": set(),
    "source": {"config", "pgoutput"},
    "pgoutput": set(),
    "transactions": set(),
    "batcher": {"config"},
    "envelopes": {"pgoutput"},
    "sinks": {"config", "envelopes"},
    "checkpoint": {"sinks"},
    "admin": set(),
    "embedded": set(),
}
FENCES = {
    "psycopg": ("deltaforge/source/", "deltaforge/demo/"),
    "trio_asyncio": ("deltaforge/source/",),
    "confluent_kafka": ("deltaforge/sinks/kafka/", "deltaforge/checkpoint/topic.py", "deltaforge/demo/"),
    "quart": ("deltaforge/admin/",),
    "quart_trio": ("deltaforge/admin/",),
    "hypercorn": ("deltaforge/admin/",),
    "structlog": ("deltaforge/logs.py",),
    "yaml": ("deltaforge/config/",),
    "prometheus_client": ("deltaforge/metrics.py",),
}
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "types", "misc"}


def relative(path: Path) -> str:
    """The path as the rules above write it."""
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, type-checking imports included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield ("actors." if node.level else "") + (node.module or "")


def room_of(module: str) -> str:
    """`deltaforge.sinks.kafka.actor` -> `sinks`; '' for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


@pytest.mark.parametrize("path", [p for p in PRODUCT if relative(p).startswith("actors/")], ids=relative)
def test_actors_knows_only_the_standard_library_and_trio(path: Path) -> None:
    """Guards against a supervision library that cannot be published alone."""
    allowed = {"trio", "actors", "hypothesis"} if path.name == "testing.py" else {"trio", "actors"}
    found = {name.split(".")[0] for name in imports(path)} - sys.stdlib_module_names
    assert found <= allowed


@pytest.mark.parametrize("path", [p for p in PRODUCT if relative(p).startswith(PURE)], ids=relative)
def test_a_pure_core_touches_no_loop_and_no_driver(path: Path) -> None:
    """Guards against logic that can only be tested with servers."""
    assert not {name.split(".")[0] for name in imports(path)} & IMPURE


@pytest.mark.parametrize("path", [p for p in PRODUCT if p.relative_to(ROOT).parts[1] in MAY_READ], ids=relative)
def test_a_room_reads_only_the_rooms_it_may(path: Path) -> None:
    """Guards against stages that know each other instead of meeting as values on channels."""
    room = path.relative_to(ROOT).parts[1]
    others = {room_of(name) for name in imports(path) if name.split(".")[0] == "deltaforge"}
    assert others - EVERYBODY - {room} <= MAY_READ[room]


@pytest.mark.parametrize("path", PRODUCT, ids=relative)
def test_drivers_stay_behind_their_fences(path: Path) -> None:
    """Guards against a driver's types leaking through the code."""
    for name in {name.split(".")[0] for name in imports(path)} & FENCES.keys():
        assert relative(path).startswith(FENCES[name]), f"{name} in {relative(path)}"


@pytest.mark.parametrize("path", PRODUCT, ids=relative)
def test_files_functions_and_names_stay_small_and_telling(path: Path) -> None:
    """Guards against files nobody reads to the end."""
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    assert path.stem not in FORBIDDEN_NAMES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            start = node.body[0].lineno
            lines = (node.end_lineno or start) - start + 1
            assert lines <= 40, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("path", PRODUCT, ids=relative)
def test_no_channel_end_is_closed_by_async_with(path: Path) -> None:
    """Guards against the closing checkpoint that replaces the error which closed the channel."""
    assert not re.search(r"async with \w*(channel|mailbox|inbox|outbox|send|receive)\w*\s*:", path.read_text(), re.I)


def test_the_map_names_the_rooms_in_the_order_of_the_data() -> None:
    """Guards against a map in the package's docstring that is not the territory."""
    folders = {p.name for p in (ROOT / "deltaforge").iterdir() if (p / "__init__.py").exists()}
    assert set(deltaforge.ROOMS) | {"admin", "embedded", "demo"} == folders
    doc = deltaforge.__doc__ or ""
    at = [doc.index(f"\n  {room} ") for room in deltaforge.ROOMS]
    assert at == sorted(at)


def test_the_top_level_holds_what_it_should_and_nothing_else() -> None:
    """Guards against a repository that grows at the root."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {name.split("/")[0] for name in listed.splitlines()}
    files = {"pyproject.toml", "README.md", "LICENSE", ".gitignore"}
    assert top <= files | {"deltaforge", "actors", "tests", "examples", "docs", ".ci"}


def test_actors_imports_without_deltaforge() -> None:
    """Guards against a hidden dependency of the library on the product."""
    code = "import sys; sys.modules['deltaforge'] = None; import actors, actors.testing"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
