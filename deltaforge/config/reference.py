"""The manual's page on the pipeline file, printed from the schema so that it cannot lie.

`python -m deltaforge.config.reference > docs/configuration.md` writes it; a test holds the two equal.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Final

from msgspec import NODEFAULT, Struct, inspect

from deltaforge.config.debezium import Refusals
from deltaforge.config.dsn import ALLOWED, REFUSED, Dsn
from deltaforge.config.properties import ClientProperties
from deltaforge.config.schema import Pipeline
from deltaforge.config.templates import KeyTemplate, TopicTemplate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CUSTOM: Final = {
    Dsn: "PostgreSQL address",
    ClientProperties: "`librdkafka.property: value`",
    TopicTemplate: "topic",
    KeyTemplate: "template",
}

_INTRODUCTION: Final = """\
# Configuration

<!-- Written by `python -m deltaforge.config.reference`; change deltaforge/config/schema.py instead. -->

A pipeline is one YAML file; `python -m deltaforge FILE` runs it, `python -m deltaforge validate FILE` reports every
problem in it with line and column. FILE may be a directory: each `.yaml` and `.yml` file in it is a pipeline, and a
file with problems does not disturb the others. Complete files are in `examples/`.

## Rules for the file

- UTF-8, one document, at most 1 MB. Anchors, aliases, tags, merge keys and duplicate or unknown keys are refused.
- Values follow YAML 1.2: `yes`, `no`, `on` and `off` are text; only `true` and `false` are truth values.
- `${NAME}` is an environment variable, `${NAME:-default}` one with a default for when it is unset or empty. They are
  put in after the file has been read, in values only, once: what a variable contains is never expanded or read as YAML.
  An unset variable without a default is a problem.
- Lower-case names in `${...}` are templates. They are possible in `topic` and `key` only.
- A field without a value (`batch:` with nothing below) has its default.
- Passwords and keys are never printed, in no message, log or status. Give them through environment variables.
"""

_TEMPLATES: Final = """\
`topic` and `key` of a Kafka sink may hold

| field | stands for |
|---|---|
| `${source.schema}`, `${source.table}`, `${source.db}` | schema and name of the table; the database |
| `${tenant_id}` | `metadata.tenant` |
| `${op}` | the operation: `c`, `u`, `d` or `t` |
| `${after.COLUMN}`, `${before.COLUMN}` | a value of the row, as the record has it; text without its quotes |

In a topic, characters that Kafka does not allow become `_`. How the last two lines behave, and what they cost, is in
[Kafka sink](sinks/kafka.md#topics-and-keys-by-row).
"""

_CLIENT_CONF: Final = """\
## What may stand in `client_conf`

Producer properties of librdkafka by their own names or aliases, as text, number or truth value. An unknown name, a
value outside librdkafka's range, and two settings that exclude each other are problems of the file. On top of that:

- Refused: properties that run programs or load libraries (`sasl.kerberos.kinit.cmd`, `plugin.library.paths`,
  `ssl.engine.location`, `ssl.providers`), `acks: 0`, consumer properties, and what has a field of its own
  (`bootstrap.servers`: `brokers`; `transactional.id`: `exactly_once`; `allow.auto.create.topics`: `create_topics`).
- `exactly_once: true` needs `acks: all` and idempotence. `transaction.timeout.ms`, unless written, becomes 300000 or as
  much as `delivery.timeout.ms` needs; above the broker's `transaction.max.timeout.ms` (15 minutes) it is a problem.
  A process that dies without a successor keeps read_committed readers waiting that long at most.
- Without `exactly_once` idempotence is on by default, and off when a setting excludes it, such as `acks: 1`. Then one
  request is in flight per connection unless `max.in.flight.requests.per.connection` says otherwise.
- `sasl.mechanism: AWS_MSK_IAM`, with the two Java settings that go with it or without, becomes OAUTHBEARER with tokens
  signed by AWS. The region comes from the brokers' names, else from `AWS_REGION`.
- Unless written: `acks: all`, `queue.buffering.max.kbytes: 65536`, `queue.buffering.max.messages: 500000`,
  `socket.nagle.disable: true`.
"""


def page() -> str:
    """The whole page as Markdown."""
    parts = [_INTRODUCTION]
    for heading, kind in _sections():
        parts.append("\n".join(_section(heading, kind)))
    parts.append(_CLIENT_CONF)
    parts.append("\n".join(_postgres_address()))
    parts.append("\n".join(_templates()))
    return "\n".join(parts)


def _sections() -> Iterator[tuple[str, inspect.StructType]]:
    """Every section with its path, in the order in which a reader meets them."""
    root = inspect.type_info(Pipeline)
    waiting = deque([("", root)])
    seen: set[type] = set()
    while waiting:
        path, kind = waiting.popleft()
        kind = _bare(kind)[0]
        if isinstance(kind, inspect.StructType):
            if kind.cls in seen or (path and not kind.fields):
                continue
            seen.add(kind.cls)
            yield path, kind
            tag = f"({kind.tag})" if kind.tag is not None and "[]" in path else ""
            fields = [(f"{path}{tag}.{field.encode_name}".removeprefix("."), field.type) for field in kind.fields]
            waiting.extendleft(reversed(fields))
        elif isinstance(kind, inspect.VarTupleType):
            waiting.appendleft((f"{path}[]", kind.item_type))
        elif isinstance(kind, inspect.UnionType):
            waiting.extendleft((path, member) for member in reversed(kind.types))


def _section(heading: str, kind: inspect.StructType) -> Iterator[str]:
    tag = f" (`type: {kind.tag}`)" if kind.tag is not None else ""
    yield f"## `{heading}`{tag}" if heading else "## The file"
    yield ""
    yield (kind.cls.__doc__ or "").strip()
    yield ""
    yield "| Field | Value | Default | Meaning |"
    yield "|---|---|---|---|"
    if kind.tag is not None:
        yield f"| `{kind.tag_field}` | `{kind.tag}` | required | Kind of this entry. |"
    for field in kind.fields:
        bare, extra, description = _bare(field.type)
        yield f"| `{field.encode_name}` | {_value(bare, extra)} | {_default(field)} | {description} |"
    yield ""
    later = getattr(kind.cls, "later", {})
    if isinstance(later, Refusals):
        yield "Refused, as is any other name:"
        yield ""
        reasons: dict[str, list[str]] = {}
        for name, reason in later.items():
            reasons.setdefault(reason, []).append(name)
        yield from (f"- {_or(sorted(names))}: {reason}." for reason, names in sorted(reasons.items()))
        yield ""
    elif later:
        yield f"Known, but not available yet: {', '.join(f'`{name}`' for name in sorted(later))}."
        yield ""


def _bare(kind: inspect.Type) -> tuple[inspect.Type, dict[str, object], str]:
    extra: dict[str, object] = {}
    description = ""
    while isinstance(kind, inspect.Metadata):
        extra = {**(kind.extra or {}), **extra}
        description = description or str((kind.extra_json_schema or {}).get("description", ""))
        kind = kind.type
    return kind, extra, description


def _value(kind: inspect.Type, extra: dict[str, object]) -> str:
    """What may be written, in a few words."""
    if isinstance(kind, inspect.LiteralType):
        later = extra.get("later")
        more = f" (not yet: {_or(later)})" if isinstance(later, dict) else ""
        return _or(kind.values) + more
    if isinstance(kind, inspect.UnionType):
        members = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
        return _value(members[0], extra) if len(members) == 1 else "text, number or truth value"
    if isinstance(kind, (inspect.IntType, inspect.FloatType)):
        return ("whole number" if isinstance(kind, inspect.IntType) else "number") + _range(kind.ge, kind.le)
    if isinstance(kind, inspect.StrType):
        return str(extra.get("say") or "text")
    if isinstance(kind, inspect.BoolType):
        return "`true` or `false`"
    if isinstance(kind, inspect.CustomType):
        return _CUSTOM[kind.cls]
    if isinstance(kind, inspect.DictType):
        return "`name: value`"
    if isinstance(kind, inspect.VarTupleType):
        if kind.max_length == 0:
            return "`[]`"
        item, item_extra, _ = _bare(kind.item_type)
        return (
            "list of sections, see below"
            if not isinstance(item, inspect.StrType)
            else f"list of {_value(item, item_extra)}"
        )
    return "section, see below"


def _range(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f", {low} to {high}"
    return f", at least {low}" if low is not None else ""


def _or(values: Iterable[object]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _default(field: inspect.Field) -> str:
    if field.required:
        return "required"
    default = field.default if field.default is not NODEFAULT else field.default_factory()
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, Struct):
        return "its defaults"
    return f"`{default}`" if isinstance(default, (str, int, float)) and default != "" else "none"


def _postgres_address() -> Iterator[str]:
    yield "## PostgreSQL addresses"
    yield ""
    yield "`dsn` has either of libpq's forms, `postgres://user:password@host:5432/database?sslmode=verify-full` or"
    yield "`host=... dbname=...`. Host and database are required. Write `@`, `:`, `/`, `?` and `%` in a user name or"
    yield "a password as `%40`, `%3A`, `%2F`, `%3F` and `%25`."
    yield ""
    yield f"Keywords: {_or(sorted(ALLOWED))}."
    yield ""
    yield "Refused:"
    yield ""
    for name, reason in sorted(REFUSED.items()):
        yield f"- `{name}`: {reason}."
    yield ""


def _templates() -> Iterator[str]:
    yield "## Templates"
    yield ""
    yield from _TEMPLATES.splitlines()
    yield ""


if __name__ == "__main__":
    sys.stdout.write(page())
