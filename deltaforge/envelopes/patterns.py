"""Lists of regular expressions in one option, as Debezium reads them.

Rule 1: expressions stand between commas; `\\,` is a comma that belongs to one.
Rule 2: an expression has to match all of a name, upper and lower case being the same.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deltaforge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

_COMMA = re.compile(r"(?<!\\),")


def any_of(option: str, patterns: str) -> Callable[[str], bool]:
    """Whether a name matches one of `patterns`. Raises UsageError, naming `option`, for what is no expression."""
    expressions = []
    for pattern in _COMMA.split(patterns):
        try:
            expressions.append(re.compile(pattern.strip().replace("\\,", ","), re.IGNORECASE))
        except re.error as error:
            raise UsageError(f"{option}: {pattern.strip()!r} is not a regular expression: {error}") from None
    return lambda name: any(expression.fullmatch(name) for expression in expressions)


def chosen(included: tuple[str, str], excluded: tuple[str, str]) -> Callable[[str], bool]:
    """Whether an include list and an exclude list, each (option, patterns), let a name pass. '' = no list."""
    include = any_of(*included) if included[1] else None
    exclude = any_of(*excluded) if excluded[1] else None
    return lambda name: (include is None or include(name)) and not (exclude is not None and exclude(name))
