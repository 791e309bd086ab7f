"""Lists of regular expressions in one option, as Debezium reads them.

Rule 1: expressions stand between commas; `\\,` is a comma that belongs to one.
Rule 2: an expression has to match all of a name, upper and lower case being the same.
Rule 3: the language is what Java's and Python's expressions share; what one of them lacks, or both read differently,
        is refused. Letters, digits and spaces in classes such as `\\w` are those of ASCII, as in Java.
"""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING

from deltaforge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

_COMMA = re.compile(r"(?<!\\),")
_NOT_JAVA = re.compile(r"\(\?P|\(\?\(|\(\?#")
"""Named groups, conditions and comments of Python."""


class PatternError(ValueError):
    """An expression that cannot be used. The text says why and quotes nothing of it."""


def compiled(pattern: str) -> re.Pattern[str]:
    """One expression. Raises PatternError."""
    if _NOT_JAVA.search(pattern):
        raise PatternError("(?P...), (?(...) and (?#...) are not part of Java's regular expressions")
    try:
        with warnings.catch_warnings():
            # `[a[b]]` and `[a&&b]` are sets of sets to Java; Python warns and reads them letter by letter.
            warnings.simplefilter("error", FutureWarning)
            return re.compile(pattern, re.IGNORECASE | re.ASCII)
    except re.error as error:
        raise PatternError(error.msg) from None
    except FutureWarning:
        raise PatternError("sets within sets are not supported") from None


def split_list(patterns: str) -> list[str]:
    """The expressions of a list (rule 1)."""
    return [pattern.strip().replace("\\,", ",") for pattern in _COMMA.split(patterns)]


def any_of(option: str, patterns: str) -> Callable[[str], bool]:
    """Whether a name matches one of `patterns`. Raises UsageError, naming `option`, for what is no expression."""
    try:
        expressions = [compiled(pattern) for pattern in split_list(patterns)]
    except PatternError as error:
        raise UsageError(f"{option}: not a regular expression: {error}") from None
    return lambda name: any(expression.fullmatch(name) for expression in expressions)


def chosen(included: tuple[str, str], excluded: tuple[str, str]) -> Callable[[str], bool]:
    """Whether an include list and an exclude list, each (option, patterns), let a name pass. '' = no list."""
    include = any_of(*included) if included[1] else None
    exclude = any_of(*excluded) if excluded[1] else None
    return lambda name: (include is None or include(name)) and not (exclude is not None and exclude(name))


def key_choices(text: str) -> list[re.Pattern[str]]:
    """`table:column,column;table:column` as one expression over `schema.table.column` for each column, in order.

    Raises PatternError.
    """
    found = []
    for entry in text.rstrip("; ").split(";"):
        table, _, columns = entry.strip().partition(":")
        if not table or not columns or ":" in columns:
            raise PatternError("it has to be schema.table:column,column and several of these with ';'")
        found += [compiled(f"{table}.{column}") for column in columns.split(",") if column]
    return found
