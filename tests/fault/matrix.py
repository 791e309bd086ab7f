"""The fault matrix: every fault that was thought of, as data. Read from rows/*.toml; what is not run says why."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

ROWS_DIRECTORY: Final = Path(__file__).parent / "rows"


@dataclass(frozen=True)
class Group:
    """Rows that share the first letter of their ids."""

    letter: str
    file: str
    title: str


GROUPS: Final = (
    Group("P", "process", "The process itself"),
    Group("K", "kafka", "Kafka"),
    Group("N", "network", "The network"),
    Group("G", "postgres", "PostgreSQL"),
    Group("D", "data", "Data"),
    Group("C", "host", "Machine and configuration"),
    Group("X", "misuse", "Several at once, and misuse"),
)
EXPECTED: Final = {"R": "goes on", "H": "refuses or waits for a person", "RH": "goes on, or refuses"}
"""What is right: it recovers alone (R), it halts loudly (H), one of the two by what happened (RH)."""


class MatrixError(Exception):
    """The matrix, a mark or a question about them is wrong; the text says which row."""


@dataclass(frozen=True)
class Row:
    """One fault."""

    id: str
    fault: str
    expected: str
    """A key of `EXPECTED`."""
    does: str
    """What deltaforge does."""
    sees: str
    """What the operator sees: the state word, message, exit code or metric, as they are."""
    left_out: str = ""
    """What of the fault no test does, although some test does the rest."""
    not_run: str = ""
    """Why no test does it at all."""

    @property
    def number(self) -> int:
        """Its place among the rows of its letter."""
        return int(self.id[1:])


def load(directory: Path = ROWS_DIRECTORY) -> dict[str, Row]:
    """All rows by id, in the order of groups and numbers.

    Raises:
      MatrixError: a file is missing or broken, a row lacks a field or has an unknown one, or stands in a wrong file.
    """
    rows: dict[str, Row] = {}
    for group in GROUPS:
        file = directory / f"{group.file}.toml"
        try:
            tables = tomllib.loads(file.read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise MatrixError(f"{file.name}: {error}") from error
        found = [_row(group, name, table) for name, table in tables.items()]
        if [row.number for row in found] != list(range(1, len(found) + 1)):
            raise MatrixError(f"{file.name}: rows are not {group.letter}1, {group.letter}2, ...")
        rows |= {row.id: row for row in found}
    return rows


def _row(group: Group, name: str, table: Any) -> Row:
    known = {field.name for field in fields(Row)} - {"id"}
    if name[:1] != group.letter or not name[1:].isdigit() or not isinstance(table, dict):
        raise MatrixError(f"{name}: not a row of {group.file}.toml")
    if unknown := table.keys() - known:
        raise MatrixError(f"{name}: unknown {', '.join(sorted(unknown))}")
    texts = {key: " ".join(str(value).split()) for key, value in table.items()}
    if missing := [key for key in ("fault", "expected", "does", "sees") if not texts.get(key)]:
        raise MatrixError(f"{name}: lacks {', '.join(missing)}")
    if texts["expected"] not in EXPECTED:
        raise MatrixError(f"{name}: expected is one of {', '.join(EXPECTED)}")
    if "left_out" in texts and "not_run" in texts:
        raise MatrixError(f"{name}: what is not run at all cannot be left out in part")
    return Row(id=name, **texts)


def chosen(rows: dict[str, Row], names: Iterable[str] | None) -> dict[str, Row]:
    """The rows of these ids, in the order of the matrix; None = all. Raises MatrixError for an id that is none."""
    if names is None:
        return rows
    wanted = set(names)
    if unknown := sorted(wanted - rows.keys()):
        raise MatrixError(f"no row {', '.join(unknown)}; there are {', '.join(rows)}")
    return {name: row for name, row in rows.items() if name in wanted}
