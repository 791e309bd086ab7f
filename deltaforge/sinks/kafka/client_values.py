"""Names and values of a `client_conf`: each entry alone, before any rule between entries (client_conf.py).

Allow-list: a property passes only if librdkafka's producer has it and nothing below speaks against it. Values are held
to librdkafka's own types and ranges, a little more strictly: it reads `5ms` as 5.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from deltaforge.config.problems import Finding, nearest, showable
from deltaforge.config.secret import Secret
from deltaforge.sinks.kafka.properties import ALIASES, CONSUMER_ONLY, HOOKS, PROPERTIES, Property

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deltaforge.config.properties import ClientProperties, PropertyValue

RUNS_CODE: Final = frozenset(
    {
        "sasl.kerberos.kinit.cmd",
        "plugin.library.paths",
        "ssl.engine.location",
        "ssl.engine.id",
        "ssl.providers",
        "ssl_engine_callback_data",
    }
)
KERBEROS: Final = frozenset(
    {
        "sasl.kerberos.service.name",
        "sasl.kerberos.principal",
        "sasl.kerberos.keytab",
        "sasl.kerberos.min.time.before.relogin",
    }
)
"""Kerberos is not among the mechanisms, and librdkafka puts these into a shell's command line."""
OURS: Final[Mapping[str, str]] = {
    "metadata.broker.list": "use the sink's field `brokers`",
    "transactional.id": "it is built from the pipeline's and the sink's names; use `exactly_once` to turn it on",
    "allow.auto.create.topics": "use the sink's field `create_topics`",
    "delivery.report.only.error": "deltaforge sets it itself",
    "builtin.features": "librdkafka only reports it",
    "enabled_events": "deltaforge sets it itself",
    "internal.termination.signal": "deltaforge sets it itself",
    "log.queue": "deltaforge sets it itself",
}
JAVA: Final[Mapping[str, str]] = {
    "max.request.size": "the Java client's name; use message.max.bytes",
    "buffer.memory": "the Java client's name; use queue.buffering.max.kbytes",
    "max.block.ms": "the Java client's name; use the sink's field `send_timeout_secs`",
    "key.serializer": "a setting of Java programs; the sink's fields `envelope` and `encoding` decide",
    "value.serializer": "a setting of Java programs; the sink's fields `envelope` and `encoding` decide",
    "partitioner.class": "a setting of Java programs; deltaforge partitions as the Java client does by default",
    "interceptor.classes": "a setting of Java programs",
    "ssl.truststore.location": "Java's key store; use ssl.ca.location with a PEM file",
    "ssl.truststore.password": "Java's key store; use ssl.ca.location with a PEM file",
    "ssl.truststore.type": "Java's key store; use ssl.ca.location with a PEM file",
    "ssl.keystore.type": "Java's key store; use ssl.certificate.location and ssl.key.location",
    "ssl.enabled.protocols": "the Java client's name; librdkafka follows OpenSSL's settings",
    "receive.buffer.bytes": "the Java client's name; use socket.receive.buffer.bytes",
    "send.buffer.bytes": "the Java client's name; use socket.send.buffer.bytes",
}
MSK_ONLY: Final = ("sasl.jaas.config", "sasl.client.callback.handler.class")
_PARTITIONERS = ("murmur2", "murmur2_random")
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM")
_MOST_FINDINGS = 200
_WHOLE = re.compile(r"[-+]?[0-9]{1,10}\Z")
_NUMBER = re.compile(r"[0-9]{1,10}(\.[0-9]{1,10})?\Z")
_TOKEN_URL = re.compile(
    r"https://[^\s@\\]+\Z|http://(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]{1,5})?(/[^\s@\\]*)?\Z", re.IGNORECASE
)
_BOOLS = {"true": "true", "t": "true", "1": "true", "false": "false", "f": "false", "0": "false"}


class Given(NamedTuple):
    """An entry that passed: the name as the user wrote it, and the value as librdkafka gets it."""

    key: str
    value: str | Secret


def read_values(conf: ClientProperties) -> tuple[dict[str, Given], dict[str, Given], list[Finding]]:
    """Sort entries into librdkafka's, by canonical name, and MSK's Java ones; and note what is wrong with the rest."""
    given: dict[str, Given] = {}
    java: dict[str, Given] = {}
    findings: list[Finding] = []
    for key, value in conf.items():
        if len(findings) >= _MOST_FINDINGS:
            break
        where = f"client_conf.{key}" if showable(key) != "(not shown)" else "client_conf"
        if key in MSK_ONLY:
            java[key] = Given(key, _text(value))
            continue
        name = ALIASES.get(key, key)
        if refusal := _refusal(key, name, value):
            findings.append(Finding(where, *refusal))
        elif name in given:
            message = f"the same setting as '{given[name].key}' under another name"
            findings.append(Finding(where, message, "keep one of them", (f"client_conf.{given[name].key}",)))
        else:
            parsed, complaint = _parse(PROPERTIES[name], value)
            if complaint:
                findings.append(Finding(where, complaint))
            given[name] = Given(key, parsed)
    return given, java, findings


def _refusal(key: str, name: str, value: PropertyValue) -> tuple[str, str] | None:
    if name in RUNS_CODE:
        return f"'{key}' is refused: it runs a program or loads a library", "remove it"
    if name in KERBEROS:
        return f"'{key}' is refused: it is a part of a shell's command line", "Kerberos is not available; remove it"
    if name in OURS and not _says_the_same(name, value):
        return f"'{key}' cannot be set here", OURS[name]
    if key in CONSUMER_ONLY:
        return f"'{key}' is a setting of consumers; this sink is a producer", "remove it"
    if name in HOOKS:
        return f"'{key}' is for programs; a file cannot set it", "remove it"
    if key in JAVA:
        return f"librdkafka has no '{key}'", JAVA[key]
    if name not in PROPERTIES:
        return f"librdkafka has no property {showable(key)}", nearest(key, [*PROPERTIES, *ALIASES])
    if name == "partitioner" and str(value) not in _PARTITIONERS:
        return "deltaforge computes partitions itself, as the Java client does (murmur2)", "remove it"
    return None


def _says_the_same(name: str, value: PropertyValue) -> bool:
    """A user who writes out what deltaforge sets anyway is right."""
    said = _BOOLS.get(str(value).lower())
    return (name, said) in {("allow.auto.create.topics", "false"), ("delivery.report.only.error", "true")}


def _text(value: PropertyValue) -> str | Secret:
    if isinstance(value, Secret):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _parse(known: Property, value: PropertyValue) -> tuple[str | Secret, str]:
    """The value as librdkafka gets it, and a complaint or ''. No complaint quotes the value."""
    text = _text(value)
    if isinstance(text, Secret):
        return text, "" if text else "is empty"
    if known.name == "request.required.acks":
        return _acks(text)
    if known.name == "sasl.oauthbearer.token.endpoint.url":
        # The client's secret is sent there.
        return text, "" if _TOKEN_URL.match(text) else "has to begin with https://, or http:// on this machine"
    if known.name == "sasl.mechanisms":
        return text.upper(), _one_of(text.upper(), _MECHANISMS)
    if known.kind == "bool":
        return _BOOLS.get(text.lower(), text), "" if text.lower() in _BOOLS else "has to be true or false"
    if known.kind == "enum":
        words = {word.lower(): word for word in known.words}
        return words.get(text.lower(), text), _one_of(text.lower(), tuple(words))
    if known.kind == "flags":
        wrong = [flag for flag in text.split(",") if flag.strip().lower() not in known.words]
        return text, f"has to be some of {', '.join(known.words)}, with commas" if wrong else ""
    if known.kind in ("int", "float"):
        return _number(known, text.strip())
    return text, "" if text else "is empty"


def _acks(text: str) -> tuple[str, str]:
    if text.lower() in ("all", "-1"):
        return "all", ""
    if text == "0":
        return text, "with 0 nobody learns of a lost record; use all, or 1"
    return text, "" if text == "1" else "has to be all or 1"


def _one_of(text: str, words: tuple[str, ...]) -> str:
    if text in words:
        return ""
    hint = nearest(text, words)
    return f"has to be one of {', '.join(words)}{'; ' + hint if hint else ''}"


def _number(known: Property, text: str) -> tuple[str, str]:
    if not (_WHOLE if known.kind == "int" else _NUMBER).match(text):
        kind = "a whole number" if known.kind == "int" else "a number"
        return text, f"has to be {kind} from {known.low} to {known.high}"
    value = int(text) if known.kind == "int" else float(text)
    if not known.low <= value <= known.high:
        return text, f"has to be from {known.low} to {known.high}"
    return str(value) if known.kind == "int" else text, ""
