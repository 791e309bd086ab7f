"""From a pipeline file, or a directory of them, to checked values.

A file goes through: bytes -> YAML nodes (yamltext) -> values, variables put in (walk) -> rules between fields (here)
-> the caller's checks of Kafka sinks -> frozen structs. Every step adds its problems; a file with any has no pipeline.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from deltaforge.config.debezium import envelope_findings
from deltaforge.config.problems import ConfigProblems, Finding, Mark, Problem
from deltaforge.config.schema import KafkaSinkConfig, Pipeline
from deltaforge.config.templates import KeyTemplate, Template, TopicTemplate
from deltaforge.config.walk import Walker
from deltaforge.config.yamltext import MAX_BYTES, MAX_PROBLEMS, Node, read
from deltaforge.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

SinkCheck: TypeAlias = Callable[[KafkaSinkConfig, Mapping[str, str]], Iterable[Finding]]
"""Judges one Kafka sink beyond its schema; paths in its findings start at the sink's `config`. Given by the caller,
because what librdkafka accepts is known to the Kafka sink only. The second argument is the environment."""

NAME_BYTES: Final = 63
"""The longest name of anything in PostgreSQL."""
_PIPELINE: Final = msgspec.inspect.type_info(Pipeline)
_SINK: Final = re.compile(r"spec\.sinks\[[0-9]+\]\Z")
_OF_DEBEZIUM_KEYS: Final = ("message.key.columns", "key.converter.schemas.enable")
_STAND_INS: Final = {"id": "unnamed", "brokers": "unknown", "topic": TopicTemplate.parse("unknown")}


@dataclass(frozen=True, slots=True)
class LoadedPipeline:
    """What one file held: a pipeline, or every reason why not. Exactly one of the two is set."""

    path: Path
    pipeline: Pipeline | None
    error: ConfigProblems | None
    marks: Mapping[str, Mark] = field(default_factory=dict, repr=False)
    """Where each field stands, by path (`spec.sinks[0].config.acks`)."""

    def require(self) -> Pipeline:
        """The pipeline. Raises ConfigProblems when there is none."""
        if self.pipeline is None:
            raise self.error or ConfigError(f"{self.path}: no pipeline")
        return self.pipeline


def load_path(path: Path, env: Mapping[str, str], *, sink_checks: Sequence[SinkCheck] = ()) -> list[LoadedPipeline]:
    """Load a file, or every .yaml and .yml file of a directory in the order of their names.

    A bad file does not disturb the others. Two files with the same pipeline name: the second one is refused.

    Raises:
      ConfigError: there is nothing to load at `path`.
    """
    if not path.is_dir():
        return [load_file(path, env, sink_checks=sink_checks)]
    files = sorted(child for child in path.iterdir() if child.suffix in (".yaml", ".yml") and child.is_file())
    if not files:
        raise ConfigError(f"{path} has no .yaml or .yml file in it", hint="name a pipeline file, or put one there")
    return _refuse_namesakes([_load_one_of_many(file, env, sink_checks) for file in files])


def _load_one_of_many(path: Path, env: Mapping[str, str], sink_checks: Sequence[SinkCheck]) -> LoadedPipeline:
    try:
        return load_file(path, env, sink_checks=sink_checks)
    except ConfigError as error:
        return LoadedPipeline(path, None, ConfigProblems(path, [Problem(1, 1, "", str(error), error.hint)]))


def load_file(path: Path, env: Mapping[str, str], *, sink_checks: Sequence[SinkCheck] = ()) -> LoadedPipeline:
    """Load one file. Never raises for what is in it: the result has the problems.

    Raises:
      ConfigError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="check the path and its permissions") from error
    return load_bytes(data, path, env, sink_checks=sink_checks)


def load_bytes(
    data: bytes, path: Path, env: Mapping[str, str], *, sink_checks: Sequence[SinkCheck] = ()
) -> LoadedPipeline:
    """Load the text of a file; `path` is for messages only."""
    node, problems = read(data)
    if node is None:
        return LoadedPipeline(path, None, ConfigProblems(path, problems))
    walker = Walker(env)
    walker.problems.extend(problems)
    tree = _checked_tree(walker, node, env, sink_checks)
    if not walker.problems:
        try:
            pipeline = msgspec.convert(tree, Pipeline, dec_hook=_keep)
        except msgspec.ValidationError:
            # The walk should have seen it; msgspec's text may quote the value.
            walker.problems.append(Problem(1, 1, "", "a value does not fit the schema"))
        else:
            return LoadedPipeline(path, pipeline, None, walker.marks)
    return LoadedPipeline(path, None, ConfigProblems(path, walker.problems), walker.marks)


def _checked_tree(walker: Walker, node: Node, env: Mapping[str, str], sink_checks: Sequence[SinkCheck]) -> object:
    tree = walker.walk(_PIPELINE, node, "", Mark(1, 1))
    findings = [*_findings(walker.sections, walker.marks)]
    for where, config in _kafka_configs(walker.sections):
        sink = msgspec.convert({**_STAND_INS, **config}, KafkaSinkConfig, dec_hook=_keep)
        for check in sink_checks:
            findings += (_below(where, finding) for finding in check(sink, env))
    for finding in findings[:MAX_PROBLEMS]:
        walker.problems.append(walker.place(finding))
    return tree


def _keep(cls: type, value: object) -> object:
    """The walk has parsed Dsn, templates and ClientProperties already."""
    if not isinstance(value, cls):
        raise TypeError(f"expected {cls.__name__}")
    return value


def _below(where: str, finding: Finding) -> Finding:
    return finding._replace(
        where=f"{where}.{finding.where}" if finding.where else where,
        also=tuple(f"{where}.{other}" for other in finding.also),
    )


def _kafka_configs(sections: Mapping[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    sinks = [where for where, values in sections.items() if values.get("type") == "kafka" and where.endswith("]")]
    return [(f"{where}.config", sections[f"{where}.config"]) for where in sinks if f"{where}.config" in sections]


# Rules between fields. They see sections of a file that may have problems elsewhere, so nothing is taken for granted.


def _findings(sections: Mapping[str, dict[str, Any]], marks: Mapping[str, Mark]) -> Iterable[Finding]:
    sinks = {f"{where}.config": sections[f"{where}.config"] for where in _sink_paths(sections)}
    yield from _same_twice(sinks, "id", "another sink has the same id")
    yield from _same_twice(sinks, "path", "another sink writes to the same file")
    policy = sections.get("spec.commit_policy", {})
    if all(name in policy for name in ("mode", "quorum") if f"spec.commit_policy.{name}" in marks):
        yield from _policy_findings(policy, sinks, sum(bool(_SINK.match(where)) for where in marks))
    yield from _source_findings(sections.get("spec.source.config", {}))
    tenant = sections.get("metadata", {}).get("tenant")
    for where, config in sinks.items():
        envelope, options = (sections.get(f"{where}.envelope{below}", {}) for below in ("", ".options"))
        yield from (_below(f"{where}.envelope", finding) for finding in envelope_findings(envelope, options))
        kind = sections[where.removesuffix(".config")].get("type")
        if kind != "kafka" and options.get("heartbeat.interval.ms"):
            place = f"{where}.envelope.options.heartbeat.interval.ms"
            yield Finding(place, "only a Kafka sink sends heartbeats", "remove it here")
        yield from _template_findings(where, config, options, tenant)


def _source_findings(source: Mapping[str, Any]) -> Iterable[Finding]:
    # PostgreSQL cuts longer names off when something is made under them: nothing has them.
    too_long = f"has a name of more than {NAME_BYTES} bytes in UTF-8: PostgreSQL has none so long"
    if len(source.get("publication", "").encode()) > NAME_BYTES:
        yield Finding("spec.source.config.publication", too_long, "write the name as PostgreSQL has it")
    seen: set[str] = set()
    for index, table in enumerate(source.get("tables", [])):
        where = f"spec.source.config.tables[{index}]"
        if table in seen:
            yield Finding(where, "the table is listed twice")
        if any(len(part.encode()) > NAME_BYTES for part in table.replace("%", "").split(".")):
            yield Finding(where, too_long, "write the name as PostgreSQL has it")
        seen.add(table)


def _template_findings(
    where: str, config: Mapping[str, Any], options: Mapping[str, Any], tenant: object
) -> Iterable[Finding]:
    for name in ("topic", "key"):
        template = config.get(name)
        if isinstance(template, Template) and "tenant_id" in template.fields and not tenant:
            yield Finding(f"{where}.{name}", "uses ${tenant_id}, but metadata.tenant is not set", "set metadata.tenant")
    if not isinstance(config.get("key"), KeyTemplate):
        return
    others = [f"envelope.options.{name}" for name in _OF_DEBEZIUM_KEYS if options.get(name)]
    for other in [*others, *(["key_uniqueness"] if "key_uniqueness" in config else [])]:
        yield Finding(f"{where}.{other}", "has no effect beside key, which replaces the whole key", "remove one", ())


def _sink_paths(sections: Mapping[str, dict[str, Any]]) -> list[str]:
    return [where for where in sections if where.startswith("spec.sinks[") and f"{where}.config" in sections]


def _same_twice(sinks: Mapping[str, dict[str, Any]], name: str, message: str) -> Iterable[Finding]:
    first: dict[str, str] = {}
    for where, config in sinks.items():
        value = config.get(name)
        if value is None:
            continue
        if value in first:
            yield Finding(f"{where}.{name}", message, also=(f"{first[value]}.{name}",))
        first.setdefault(value, where)


def _policy_findings(policy: dict[str, Any], sinks: Mapping[str, dict[str, Any]], count: int) -> Iterable[Finding]:
    mode, quorum = policy.get("mode", "required"), policy.get("quorum")
    where = "spec.commit_policy"
    if mode == "quorum" and quorum is None:
        yield Finding(f"{where}.mode", "quorum needs a number", "add quorum: N beside it")
    elif mode != "quorum" and quorum is not None:
        yield Finding(f"{where}.quorum", f"has no meaning with mode {mode}", "remove it, or write mode: quorum")
    elif quorum is not None and quorum > count > 0:
        yield Finding(f"{where}.quorum", f"is more than the number of sinks ({count})")
    if (
        mode == "required"
        and count == len(sinks) > 0
        and not any(config.get("required", True) for config in sinks.values())
    ):
        message = "waits for required sinks, but every sink has required: false"
        yield Finding(f"{where}.mode", message, "make one sink required", tuple(f"{sink}.required" for sink in sinks))


def _refuse_namesakes(loaded: list[LoadedPipeline]) -> list[LoadedPipeline]:
    owners: dict[str, Path] = {}
    result = []
    for item in loaded:
        if item.pipeline is not None:
            name = item.pipeline.metadata.name
            if name in owners:
                mark = item.marks.get("metadata.name", Mark(1, 1))
                problem = Problem(*mark, "metadata.name", f"{owners[name].name} has a pipeline of the same name")
                item = replace(item, pipeline=None, error=ConfigProblems(item.path, [problem]))
            owners.setdefault(name, item.path)
        result.append(item)
    return result
