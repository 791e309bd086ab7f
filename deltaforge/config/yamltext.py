"""YAML text to a tree of nodes that know their line, nothing more than a configuration needs.

PyYAML's scanner does the reading; we take its events, not its objects, because events come with places, do not recurse,
and let us refuse anchors, aliases, tags and merge keys before they mean anything (an alias bomb passes a safe loader).
Plain scalars follow YAML 1.2's core schema: `yes`, `no`, `on`, `off`, `1:30` and `2024-01-01` are text.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from typing import TypeAlias

import yaml

from deltaforge.config.problems import Mark, Problem, showable

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_NODES = 100_000
"""Keys, values, groups and lists together. Reading takes time by their number, more than by the file's size."""
MAX_PROBLEMS = 200

_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})\Z")
_FLOAT = re.compile(r"[-+]?(?=.*[.eE])(\.[0-9]{1,20}|(0|[1-9][0-9]{0,19})(\.[0-9]{0,20})?)([eE][-+]?[0-9]{1,2})?\Z")
# A scanner message quotes what it tripped over, which may be a password that lacks its quotes.
_QUOTED = re.compile(r"'[^'<]{2,}'|\"[^\"<]{2,}\"")

ScalarValue: TypeAlias = "str | int | float | bool | None"


@dataclass(frozen=True, slots=True)
class Scalar:
    """A leaf. `plain` = written without quotes, so that its value may be something else than text.

    `broken` stands for something refused already: nobody should complain about its value as well.
    """

    mark: Mark
    text: str
    plain: bool
    broken: bool = False

    @property
    def value(self) -> ScalarValue:
        """The text as YAML's core schema reads it."""
        if not self.plain:
            return self.text
        return resolve(self.text)


@dataclass(frozen=True, slots=True)
class Entry:
    """One `key: value`, with the place of the key."""

    mark: Mark
    key: str
    node: Node


@dataclass(frozen=True, slots=True)
class Mapping:
    """`key: value` pairs in file order, duplicates already taken out."""

    mark: Mark
    entries: list[Entry] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    mark: Mark
    items: list[Node] = field(default_factory=list)


Node: TypeAlias = "Scalar | Mapping | Sequence"


def resolve(text: str) -> ScalarValue:
    """Read an unquoted scalar."""
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if _INT.match(text):
        return int(text)
    return float(text) if _FLOAT.match(text) else text


def read(data: bytes) -> tuple[Node | None, list[Problem]]:
    """Read one document. Returns its tree, None when there is no usable one, and what is wrong with the text."""
    if len(data) > MAX_BYTES:
        return None, [Problem(1, 1, "", f"the file is larger than {MAX_BYTES} bytes")]
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        return None, [Problem(line, column, "", "the file is not UTF-8", "save it as UTF-8")]
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            builder.take(event)
            if builder.hopeless:
                break
    except yaml.YAMLError as error:
        builder.problems.append(_syntax_problem(error, text))
        return None, builder.problems
    if builder.root is None and not builder.problems:
        builder.problems.append(Problem(1, 1, "", "the file is empty"))
    return (None if builder.hopeless else builder.root), builder.problems


def _syntax_problem(error: yaml.YAMLError, text: str) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        reason = _QUOTED.sub("(not shown)", error.problem or "")
        return Problem(mark.line + 1, mark.column + 1, "", f"not valid YAML: {reason}")
    position = getattr(error, "position", 0)
    start = text.rfind("\n", 0, position) + 1
    return Problem(text.count("\n", 0, position) + 1, position - start + 1, "", "a character that YAML does not allow")


class _Builder:
    """Turns events into nodes. `stack` holds the open collections, innermost last."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self.hopeless = False
        self._documents = self._nodes = 0
        self._stack: list[_Open] = []

    def take(self, event: yaml.Event) -> None:
        mark = Mark(event.start_mark.line + 1, event.start_mark.column + 1) if event.start_mark else Mark(1, 1)
        if isinstance(event, yaml.DocumentStartEvent):
            self._start_document(mark)
        elif isinstance(event, yaml.AliasEvent):
            self._refuse(mark, "aliases (*name) are not allowed", "write the value out")
            self._add(Scalar(mark, "", plain=True, broken=True))
        elif isinstance(event, yaml.NodeEvent):
            self._start_node(event, mark)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._add(self._stack.pop().close(self.problems))
            self._give_up(mark)

    def _start_document(self, mark: Mark) -> None:
        self._documents += 1
        if self._documents > 1:
            self._stop(mark, "more than one document in the file", "put every pipeline into a file of its own")

    def _start_node(self, event: yaml.NodeEvent, mark: Mark) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._stop(mark, f"more than {MAX_NODES} keys and values in the file", "")
            return
        if event.anchor is not None:
            self._refuse(
                mark, "anchors (&name) are not allowed", "write the value out; quote text that starts with '&'"
            )
        # PyYAML's node events carry a tag only when one is written.
        if getattr(event, "tag", None) is not None:
            self._refuse(mark, "tags (!name) are not allowed", "quote text that starts with '!'")
        if isinstance(event, yaml.ScalarEvent):
            self._add(Scalar(mark, event.value, plain=not event.style and not event.tag))
            return
        if len(self._stack) >= MAX_DEPTH:
            self._stop(mark, f"nested more than {MAX_DEPTH} levels deep", "")
            return
        self._stack.append(_Open(mark, mapping=isinstance(event, yaml.MappingStartEvent)))

    def _add(self, node: Node) -> None:
        if self._stack:
            self._stack[-1].nodes.append(node)
        else:
            self.root = node

    def _refuse(self, mark: Mark, message: str, hint: str) -> None:
        self.problems.append(Problem(*mark, "", message, hint))
        self._give_up(mark)

    def _give_up(self, mark: Mark) -> None:
        if len(self.problems) >= MAX_PROBLEMS and not self.hopeless:
            self._stop(mark, "too many problems; the rest of the file was not read", "")

    def _stop(self, mark: Mark, message: str, hint: str) -> None:
        self.problems.append(Problem(*mark, "", message, hint))
        self.hopeless = True


class _Open:
    """A collection whose end has not come yet. A mapping's nodes are keys and values in turn."""

    def __init__(self, mark: Mark, *, mapping: bool) -> None:
        self.mark = mark
        self.mapping = mapping
        self.nodes: list[Node] = []

    def close(self, problems: list[Problem]) -> Node:
        if not self.mapping:
            return Sequence(self.mark, self.nodes)
        mapping = Mapping(self.mark)
        seen: dict[str, Mark] = {}
        for key, node in zip(self.nodes[::2], self.nodes[1::2], strict=True):
            if len(problems) >= MAX_PROBLEMS:
                break
            if not isinstance(key, Scalar):
                problems.append(Problem(*key.mark, "", "a key has to be text"))
            elif key.plain and key.text == "<<":
                problems.append(Problem(*key.mark, "", "merge keys (<<) are not allowed", "write the fields out"))
            elif key.text in seen:
                message = f"duplicate key {showable(key.text)}, first on line {seen[key.text].line}"
                problems.append(Problem(*key.mark, "", message, "remove one of them"))
            else:
                seen[key.text] = key.mark
                mapping.entries.append(Entry(key.mark, key.text, node))
        return mapping
