"""Which tests run which rows of the matrix, read from the source: the same answer whatever part of the suite is run.

`@pytest.mark.fault("P4", "K3")` stands over a test, in `marks=` of one of its parameters, or in a module's
`pytestmark`. A mark elsewhere, or one whose ids are not literal, would be overlooked: that is an error.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.fault.matrix import MatrixError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from tests.fault.matrix import Row

TESTS: Final = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Marked:
    """A test that says which rows it runs."""

    file: str
    """From the repository's root."""
    test: str
    rows: tuple[str, ...]

    @property
    def words(self) -> str:
        """What the test promises."""
        return self.test.removeprefix("test_").replace("_", " ")


def marked(tests: Path = TESTS) -> tuple[Marked, ...]:
    """Every marked test, in the order of files and lines.

    Raises:
      MatrixError: a mark stands where it cannot be read.
    """
    return tuple(found for file in sorted(tests.rglob("test_*.py")) for found in _of_file(file, tests.parent))


def _of_file(file: Path, root: Path) -> Iterator[Marked]:
    text, name = file.read_text(), file.relative_to(root).as_posix()
    if "mark.fault" not in text:
        return
    tree = ast.parse(text)
    everybody = [node for statement in tree.body if _is_pytestmark(statement) for node in _marks([statement])]
    read = len(everybody)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            own = list(_marks(node.decorator_list))
            read += len(own)
            ids = tuple(dict.fromkeys(row for mark in (*everybody, *own) for row in _ids(mark, name)))
            if ids:
                yield Marked(name, node.name, ids)
    if read != len(list(_marks([tree]))):
        raise MatrixError(f"{name}: a mark `fault` stands neither over a test nor in pytestmark")


def _is_pytestmark(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id == "pytestmark" for target in statement.targets
    )


def _marks(nodes: Iterable[ast.AST]) -> Iterator[ast.Call]:
    for node in (inner for outer in nodes for inner in ast.walk(outer)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fault":
            yield node


def _ids(mark: ast.Call, file: str) -> Iterator[str]:
    for argument in mark.args:
        if not isinstance(argument, ast.Constant) or not isinstance(argument.value, str):
            raise MatrixError(f"{file}, line {mark.lineno}: ids of rows are written out")
        yield argument.value
    if not mark.args or mark.keywords:
        raise MatrixError(f"{file}, line {mark.lineno}: a mark `fault` has the ids of rows and nothing else")


@dataclass(frozen=True)
class Coverage:
    """What runs a row."""

    tests: tuple[Marked, ...]
    storm: bool
    """The storm of random faults does it too."""


def by_row(rows: dict[str, Row], tests: Sequence[Marked], storm: Collection[str] = ()) -> dict[str, Coverage]:
    """What runs every row. `storm`: the rows of random faults.

    Raises:
      MatrixError: a mark or a fault of the storm names no row.
    """
    for test in tests:
        if unknown := [row for row in test.rows if row not in rows]:
            raise MatrixError(f"{test.file}: {test.test} is marked with {', '.join(unknown)}, which no row is")
    if strange := sorted(set(storm) - rows.keys()):
        raise MatrixError(f"the storm has faults of {', '.join(strange)}, which no row is")
    return {name: Coverage(tuple(test for test in tests if name in test.rows), name in storm) for name in rows}


def contradictions(rows: Mapping[str, Row], found: Mapping[str, Coverage]) -> list[str]:
    """What is wrong between matrix and marks: rows that nothing runs and nobody explains, or that both is said of."""
    run = {name for name, coverage in found.items() if coverage.tests or coverage.storm}
    idle = [name for name, row in rows.items() if name not in run and not row.not_run]
    both = [name for name, row in rows.items() if name in run and row.not_run]
    return [
        *(f"{name}: neither a test nor a reason (`not_run`)" for name in idle),
        *(f"{name}: a test and a reason why there is none; remove `not_run`" for name in both),
    ]
