"""The SQL file of a recording, taken apart. Pure.

Lines before `-- STREAM` make what is there when the connector starts; after it, `-- TX` lines separate transactions.
Header comments, anywhere before `-- STREAM`:

    -- postgres 18                          the server's major version, 15 when absent
    -- topic gold.all 12                    made beforehand with so many partitions; its records tell their partition
    -- record NAME: option=value ...        record the file as NAME.jsonl with these connector options

Several `record` lines make several recordings of the one file; without any there is one, named after the file. Values
are quoted as in a shell.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_HEADER = re.compile(r"^-- (postgres|topic|record) (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One SQL file.

    Attributes:
      before: run before the connector starts.
      transactions: run one after the other when it streams.
      topics: partitions of the topics that are made beforehand.
      recordings: name to connector options.
    """

    postgres: int
    before: str
    transactions: Sequence[str]
    topics: Mapping[str, int]
    recordings: Mapping[str, Mapping[str, str]]


def parse(name: str, text: str) -> Script:
    """Take the file `NAME.sql` apart.

    Raises:
      ValueError: it has no line `-- STREAM`, or a header that cannot be read.
    """
    before, marker, after = text.partition("\n-- STREAM\n")
    if not marker:
        raise ValueError(f"{name}.sql has no line -- STREAM")
    postgres, topics, recordings = 15, {}, {}
    for word, rest in _HEADER.findall(before):
        if word == "postgres":
            postgres = int(rest)
        elif word == "topic":
            topic, partitions = rest.split()
            topics[topic] = int(partitions)
        else:
            recording, _, options = rest.partition(":")
            recordings[recording] = dict(_option(option) for option in shlex.split(options))
    blocks = [block for block in after.split("-- TX\n") if block.strip()]
    return Script(postgres, before, blocks, topics, recordings or {name: {}})


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"not of the form option=value: {text}")
    return name, value
