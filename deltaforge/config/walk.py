"""Hold a YAML tree against the schema and note every problem, not the first.

Rule 1: a problem names the field and quotes nothing of its value; only key names that look like key names are shown.
Rule 2: a field with a problem is left out of the result, so that one mistake makes one line.
Rule 3: environment variables are put in here, in text leaves only; what they contribute is not scanned again.
Rule 4: nothing (`field:`) means the default, as with a field that is not there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from msgspec import inspect

from deltaforge.config.dsn import DsnError, parse_dsn
from deltaforge.config.problems import Finding, Mark, Problem, nearest, showable
from deltaforge.config.properties import ClientProperties, doubtful, names_secret
from deltaforge.config.secret import Secret, register
from deltaforge.config.templates import Piece, Template, TemplateError, split
from deltaforge.config.yamltext import MAX_PROBLEMS, Mapping, Node, Scalar, Sequence, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping as MappingOf

BAD: Final = object()
"""Result of a field that has a problem."""

_KINDS: Final = {Mapping: "a group of fields", Sequence: "a list"}


class Walker:
    """One walk over one file. Afterwards `problems` lists what is wrong and `marks` where each field stands."""

    def __init__(self, env: MappingOf[str, str]) -> None:
        self._env = env
        self.problems: list[Problem] = []
        self.marks: dict[str, Mark] = {}
        self.sections: dict[str, dict[str, Any]] = {}
        """Healthy values of every section, by path: enough to check one part of a file whose rest is wrong."""

    def walk(self, kind: inspect.Type, node: Node, where: str, at: Mark) -> object:
        """Return the value of `node` as built-in types, or BAD. `at` is the place of its key."""
        extra: dict[str, Any] = {}
        while isinstance(kind, inspect.Metadata):
            extra = {**(kind.extra or {}), **extra}
            kind = kind.type
        if isinstance(node, Scalar) and node.broken:
            return BAD
        if isinstance(kind, inspect.UnionType):
            kind = self._choose(kind, node)
        if isinstance(kind, inspect.StructType):
            return self._section(kind, node, where, at)
        if isinstance(kind, inspect.CustomType):
            return self._custom(kind.cls, node, where)
        if isinstance(kind, inspect.VarTupleType):
            return self._list(kind, node, where, extra)
        if isinstance(kind, inspect.DictType):
            return self._dict(kind, node, where)
        return self._leaf(kind, node, where, extra)

    def problem(self, mark: Mark, where: str, message: str, hint: str = "") -> object:
        """Note a problem; returns BAD. Nobody reads more than MAX_PROBLEMS."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(*mark, where, message, hint))
        return BAD

    def place(self, finding: Finding) -> Problem:
        """Give a finding its line, and the lines of the fields it mentions."""
        mark = self._mark(finding.where)
        lines = sorted({self._mark(where).line for where in finding.also} - {mark.line})
        message = finding.message + (f" (see line {', '.join(map(str, lines))})" if lines else "")
        return Problem(*mark, finding.where, message, finding.hint)

    def _mark(self, where: str) -> Mark:
        while where not in self.marks and where:
            where = re.sub(r"\.?[^.]*\Z", "", where)
        return self.marks.get(where, Mark(1, 1))

    def _choose(self, kind: inspect.UnionType, node: Node) -> inspect.Type:
        """Pick the member of a union: by tag, or the one that is not None, or any plain value."""
        members = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
        if isinstance(members[0], inspect.StructType) and len(members) > 1:
            tags = {member.tag: member for member in members if isinstance(member, inspect.StructType)}
            tag = next((e.node.text for e in _entries(node) if e.key == "type" and isinstance(e.node, Scalar)), None)
            return tags.get(tag, kind)
        return members[0] if len(members) == 1 else kind

    # Sections, lists, dicts

    def _section(self, kind: inspect.StructType, node: Node, where: str, at: Mark) -> object:
        if not isinstance(node, Mapping):
            return self._wrong_kind(node, where, "a group of fields")
        fields = {field.encode_name: field for field in kind.fields}
        later: MappingOf[str, str] = getattr(kind.cls, "later", {})
        values = self.sections[where] = {}
        given = set()
        if kind.tag_field is not None:
            given.add(kind.tag_field)
            self._tag(kind, node, where, at, values)
        for entry in node.entries:
            path = f"{where}.{entry.key}" if where else entry.key
            self.marks[path] = entry.mark
            field = fields.get(entry.key)
            if field is None:
                if entry.key not in given:
                    self._unknown(entry.mark, path, entry.key, later, [*fields, *given])
                continue
            given.add(entry.key)
            if _is_nothing(entry.node):
                del self.marks[path]
                if field.required:
                    self.problem(entry.mark, path, "has no value")
                continue
            value = self.walk(field.type, entry.node, path, entry.mark)
            if value is not BAD:
                values[entry.key] = value
        for name, field in fields.items():
            if field.required and name not in given:
                self.problem(at, f"{where}.{name}" if where else name, "is missing")
        complete = all(name in values for name, field in fields.items() if field.required)
        return values if complete else BAD

    def _tag(self, kind: inspect.StructType, node: Mapping, where: str, at: Mark, values: dict[str, Any]) -> None:
        entry = next((entry for entry in node.entries if entry.key == kind.tag_field), None)
        if entry is None:
            self.problem(at, f"{where}.{kind.tag_field}", "is missing", f"write {kind.tag_field}: {kind.tag}")
        elif not isinstance(entry.node, Scalar) or entry.node.text != kind.tag:
            self.problem(entry.node.mark, f"{where}.{kind.tag_field}", f"only '{kind.tag}' is available")
        else:
            values[entry.key] = kind.tag

    def _unknown(self, mark: Mark, where: str, key: str, later: MappingOf[str, str], known: list[str]) -> None:
        shown = showable(key)
        path = where if shown != "(not shown)" else where[: -len(key)].rstrip(".")
        if key in later:
            reason = later[key]
            told = " " in reason and reason[:3] != "not"
            self.problem(mark, path, reason if told else f"{shown} is {reason}", "" if told else nearest(key, known))
        elif len(self.problems) < MAX_PROBLEMS:
            hint = nearest(key, known) or f"known here: {', '.join(sorted(set(known)))}"
            self.problem(mark, path, f"unknown key {shown}", hint)

    def _list(self, kind: inspect.VarTupleType, node: Node, where: str, extra: dict[str, Any]) -> object:
        if not isinstance(node, Sequence):
            return self._wrong_kind(node, where, "a list")
        if kind.max_length is not None and len(node.items) > kind.max_length:
            return self.problem(node.items[kind.max_length].mark, where, extra.get("say") or "is too long")
        if len(node.items) < (kind.min_length or 0):
            return self.problem(node.mark, where, "needs at least one entry")
        values = []
        for index, item in enumerate(node.items):
            path = f"{where}[{index}]"
            self.marks[path] = item.mark
            if _is_nothing(item):
                self.problem(item.mark, path, "has no value")
            elif (value := self.walk(kind.item_type, item, path, item.mark)) is not BAD:
                values.append(value)
        return values

    def _dict(self, kind: inspect.DictType, node: Node, where: str) -> object:
        if not isinstance(node, Mapping):
            return self._wrong_kind(node, where, "a group of `name: value`")
        values = {}
        for entry in node.entries:
            path = f"{where}.{entry.key}" if showable(entry.key) != "(not shown)" else where
            self.marks[path] = entry.mark
            value = self.walk(kind.value_type, entry.node, path, entry.mark)
            if value is not BAD:
                values[entry.key] = value
        return values

    # Leaves

    def _leaf(self, kind: inspect.Type, node: Node, where: str, extra: dict[str, Any]) -> object:
        if isinstance(kind, inspect.UnionType) and any(isinstance(t, inspect.StructType) for t in kind.types):
            tags = sorted(str(t.tag) for t in kind.types if isinstance(t, inspect.StructType))
            return self._bad_tag(node, where, tags)
        if not isinstance(node, Scalar):
            return self._wrong_kind(node, where, _kind_words(kind))
        text = self.expand(node, where)
        if text is None:
            return BAD
        # What a variable says is text; a field of another type takes it as if it stood in the file without quotes.
        value = node.value if text == node.text else (text if isinstance(kind, inspect.StrType) else resolve(text))
        if extra.get("loose"):
            text = text if isinstance(kind, inspect.StrType) else text.strip().lower()
            value = text if isinstance(kind, inspect.StrType) else resolve(text)
        if isinstance(kind, inspect.LiteralType):
            return self._literal(kind, node, text, where, extra)
        if misfit := _misfit(kind, value, extra):
            message, hint = misfit
            return self.problem(node.mark, where, message, "" if extra.get("loose") else hint)
        return float(value) if isinstance(kind, inspect.FloatType) and isinstance(value, int) else value

    def _literal(self, kind: inspect.LiteralType, node: Scalar, text: str, where: str, extra: dict[str, Any]) -> object:
        known = [str(value) for value in kind.values]
        if text in known:
            return text
        later: dict[str, str] = extra.get("later", {})
        if text in later:
            reason = later[text]
            return self.problem(
                node.mark, where, f"'{text}' is {reason}" if reason[:3] == "not" else f"'{text}': {reason}"
            )
        message = f"has to be one of {', '.join(known)}" if len(known) > 1 else f"has to be {known[0]}"
        return self.problem(node.mark, where, message, nearest(text, known))

    def _bad_tag(self, node: Node, where: str, tags: list[str]) -> object:
        entry = next((entry for entry in _entries(node) if entry.key == "type"), None)
        known = f"known types: {', '.join(tags)}"
        if entry is None:
            for other in _entries(node):
                if other.key != "config":
                    self._unknown(other.mark, f"{where}.{other.key}", other.key, {}, ["type", "config"])
            return self.problem(node.mark, f"{where}.type", "is missing", known)
        text = entry.node.text if isinstance(entry.node, Scalar) else ""
        return self.problem(
            entry.node.mark, f"{where}.type", "is not a type this version has", nearest(text, tags) or known
        )

    def _wrong_kind(self, node: Node, where: str, wanted: str) -> object:
        found = _KINDS.get(type(node), "a single value")
        return self.problem(node.mark, where, f"has to be {wanted}, not {found}")

    # Text with variables

    def expand(self, node: Scalar, where: str) -> str | None:
        """Put environment variables into a text. Returns None after noting a problem."""
        pieces = self._pieces(node, where)
        if pieces is None:
            return None
        if any(piece.kind == "template" for piece in pieces):
            hint = "environment variables have capitals"
            self.problem(node.mark, where, "templates (${lower.case}) are possible in topic and key only", hint)
            return None
        return "".join(piece.text for piece in pieces)

    def _pieces(self, node: Scalar, where: str) -> list[Piece] | None:
        """Split at `${...}` and replace variables by text."""
        done: list[Piece] = []
        healthy = True
        for piece in split(node.text):
            if piece.kind == "env":
                value = self._env.get(piece.text)
                if piece.default is not None and not value:
                    value = piece.default
                if value is None:
                    hint = f"export {piece.text}, or write ${{{piece.text}:-default}}"
                    self.problem(node.mark, where, f"environment variable {piece.text} is not set", hint)
                    healthy = False
                else:
                    done.append(Piece("text", value))
            elif piece.kind == "malformed":
                self.problem(
                    node.mark, where, "a '${' without a valid name and '}'", "write ${NAME} or ${NAME:-default}"
                )
                healthy = False
            else:
                done.append(piece)
        return done if healthy else None

    # Values with a parser of their own

    def _custom(self, cls: type, node: Node, where: str) -> object:
        if cls is ClientProperties:
            return self._client_properties(node, where)
        if not isinstance(node, Scalar) or not (isinstance(node.value, str) or "${" in node.text):
            return self._wrong_kind(node, where, "text")
        if issubclass(cls, Template):
            return self._template(cls, node, where)
        return self._dsn(node, where)

    def _template(self, cls: type[Template], node: Scalar, where: str) -> object:
        pieces = self._pieces(node, where)
        if pieces is None:
            return BAD
        try:
            return cls(pieces)
        except TemplateError as error:
            return self.problem(node.mark, where, str(error))

    def _dsn(self, node: Scalar, where: str) -> object:
        text = self.expand(node, where)
        if text is None:
            return BAD
        try:
            return parse_dsn(text)
        except DsnError as error:
            # What did not parse may hold the password anywhere.
            for part in (text, *_password_like(text)):
                register(part)
            return self.problem(node.mark, where, f"not a usable PostgreSQL address: {error}")

    def _client_properties(self, node: Node, where: str) -> object:
        if not isinstance(node, Mapping):
            return self._wrong_kind(node, where, "a group of `librdkafka.property: value`")
        values: dict[str, str | int | float | bool | Secret] = {}
        for entry in node.entries:
            path = f"{where}.{entry.key}" if showable(entry.key) != "(not shown)" else where
            self.marks[path] = entry.mark
            if not isinstance(entry.node, Scalar):
                self.problem(
                    entry.node.mark, path, "has to be a single value", "write the whole dotted name before the ':'"
                )
            elif (value := self._property(entry.key, entry.node, path)) is not None:
                values[entry.key] = value
        return ClientProperties(values, broken={entry.key for entry in node.entries} - values.keys())

    def _property(self, key: str, node: Scalar, where: str) -> str | int | float | bool | Secret | None:
        if node.broken:
            return None
        if _is_nothing(node):
            self.problem(node.mark, where, "has no value")
            return None
        text = self.expand(node, where)
        if text is None:
            return None
        if names_secret(key):
            return Secret(text)
        if text != node.text:
            if doubtful(key, text):
                register(text)
            return text
        return node.value


def _entries(node: Node) -> list[Any]:
    return node.entries if isinstance(node, Mapping) else []


def _password_like(text: str) -> list[str]:
    return [
        part for groups in re.findall(r"//[^:/@]*:(.*)@|password\s*=\s*'?([^\s'&]*)", text) for part in groups if part
    ]


def _is_nothing(node: Node) -> bool:
    return isinstance(node, Scalar) and not node.broken and node.value is None


def _kind_words(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.BoolType):
        return "true or false"
    if isinstance(kind, inspect.IntType):
        return "a whole number"
    if isinstance(kind, inspect.FloatType):
        return "a number"
    return "text" if isinstance(kind, inspect.StrType) else "a single value"


def _misfit(kind: inspect.Type, value: object, extra: dict[str, Any]) -> tuple[str, str] | None:
    """Why a single value does not fit, and what to do; None when it fits."""
    if isinstance(kind, inspect.StrType):
        if not isinstance(value, str):
            return "has to be text", "put it in quotes"
        return _text_misfit(kind, value, extra)
    if isinstance(kind, inspect.BoolType):
        return None if isinstance(value, bool) else ("has to be true or false", "without quotes")
    if isinstance(kind, (inspect.IntType, inspect.FloatType)):
        fits = (int,) if isinstance(kind, inspect.IntType) else (int, float)
        if isinstance(value, bool) or not isinstance(value, fits):
            return f"has to be {_kind_words(kind)}", "without quotes" if isinstance(value, str) else ""
        if kind.ge is not None and value < kind.ge:
            return f"has to be at least {kind.ge}", ""
        if kind.le is not None and value > kind.le:
            return f"has to be at most {kind.le}", ""
    if value is None:
        return "has no value", ""
    return None


def _text_misfit(kind: inspect.StrType, value: str, extra: dict[str, Any]) -> tuple[str, str] | None:
    if kind.pattern is not None and not re.search(kind.pattern, value):
        return f"has to be {extra.get('say') or 'written otherwise'}", ""
    if len(value) < (kind.min_length or 0):
        return "is empty" if not value else "is too short", ""
    if kind.max_length is not None and len(value) > kind.max_length:
        return f"has more than {kind.max_length} characters", ""
    if any(ord(character) < 32 for character in value):
        return "has a line break or another control character in it", ""
    if any("\ud800" <= character <= "\udfff" for character in value):
        return "has half a surrogate pair in it, which is no character", ""
    return None
