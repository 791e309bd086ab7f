"""What is wrong with a pipeline file, and where. No text of the file's values ever gets into a problem."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, NamedTuple

from deltaforge.config.secret import redact
from deltaforge.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_SHOWABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,63}\Z")


class Mark(NamedTuple):
    """A place in a file; both count from 1, as editors do."""

    line: int
    column: int


class Problem(NamedTuple):
    """One thing to change in the file. Sorts by place."""

    line: int
    column: int
    where: str
    """Path of the field, as in `spec.sinks[0].config.acks`; empty for the file as a whole."""
    message: str
    hint: str = ""

    def text(self) -> str:
        """`line:column: where: message (hint)`, the form compilers use."""
        where = f"{self.where}: " if self.where else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.line}:{self.column}: {where}{self.message}{hint}"


class Finding(NamedTuple):
    """A problem before its line is known: `where` is the field's path, `also` the paths of others that play a part."""

    where: str
    message: str
    hint: str = ""
    also: tuple[str, ...] = ()


class ConfigProblems(ConfigError):
    """A pipeline file has problems; `problems` lists every one of them, in file order."""

    hint = "correct the file; `python -m deltaforge validate FILE` checks it without starting anything"

    def __init__(self, path: Path, problems: Iterable[Problem]) -> None:
        self.path = path
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """One line for each problem: `file:line:column: where: message (hint)`."""
        return [redact(f"{self.path}:{problem.text()}") for problem in self.problems]


def showable(name: str) -> str:
    """A key as it may be quoted in a message. Anything unlike a field name could be a value in the wrong place."""
    return f"'{name}'" if _SHOWABLE.match(name) else "(not shown)"


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint with the known name most like `name`, or '' when none is close."""
    close = difflib.get_close_matches(name[:100], sorted(known), n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else ""
