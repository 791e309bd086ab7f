"""The settings of a Kafka sink as librdkafka gets them. Pure: files, network and confluent_kafka stay outside.

Rule 1: what the user wrote stays as written; deltaforge fills in what is not there.
Rule 2: two settings that cannot go together are a problem before the start, with both lines.
Rule 3: `exactly_once` asks for acks=all, idempotence, and `message.timeout.ms`, `socket.timeout.ms` <=
        `transaction.timeout.ms` <= the broker's `transaction.max.timeout.ms`.
Rule 4: without it idempotence is on unless something the user wrote speaks against it; once it is off, one request in
        flight per connection, or a retry swaps two versions of a row.
Rule 5: AWS_MSK_IAM, a mechanism of a Java library, becomes OAUTHBEARER with a token that AWS signs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from deltaforge.config.problems import Finding
from deltaforge.config.secret import Secret
from deltaforge.errors import ConfigError
from deltaforge.sinks.kafka.client_values import MSK_ONLY, Given, read_values
from deltaforge.sinks.kafka.properties import PROPERTIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deltaforge.config.schema import KafkaSinkConfig

BROKER_MAX_TRANSACTION_TIMEOUT_MS: Final = 900_000
"""Default of the broker's transaction.max.timeout.ms."""
TRANSACTION_TIMEOUT_MS: Final = 300_000
"""Ours, unless the delivery timeout needs more or the broker allows less."""
_SOCKET_TIMEOUT_MS = 60_000
_BACKOFF_MAX_MS = 10_000
_QUEUE_KBYTES = "65536"
_QUEUE_MESSAGES = "500000"
_ACKS, _IDEMPOTENCE = "request.required.acks", "enable.idempotence"
_IN_FLIGHT, _RETRIES = "max.in.flight.requests.per.connection", "message.send.max.retries"
_MESSAGE_TIMEOUT, _SOCKET_TIMEOUT = "message.timeout.ms", "socket.timeout.ms"
_BACKPRESSURE = "queue.buffering.backpressure.threshold"
_TXN_TIMEOUT, _LINGER, _STRATEGY = "transaction.timeout.ms", "queue.buffering.max.ms", "queuing.strategy"
_MSK_HOST = re.compile(r"\.kafka(?:-serverless)?\.([a-z]{2}(?:-[a-z]+)+-[0-9])\.amazonaws\.com(?:\.cn)?(?::[0-9]+)?\Z")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]\Z")
_JAAS = re.compile(r"\s*software\.amazon\.msk\.auth\.iam\.IAMLoginModule\s+required\s*;\s*\Z")
_HANDLER = "software.amazon.msk.auth.iam.IAMClientCallbackHandler"


@dataclass(frozen=True, slots=True)
class MskIam:
    """The token comes from AWS's signer for this region."""

    region: str


@dataclass(frozen=True, slots=True)
class ClientConf:
    """What a client of this sink's cluster is made with. Secrets stay hidden until one of the reveal methods."""

    properties: Mapping[str, str | bool | Secret]
    transactional_id: str
    oauth: MskIam | None = None
    warnings: tuple[str, ...] = field(default=(), compare=False)

    @property
    def transaction_timeout_ms(self) -> int:
        """How long the broker lets a transaction of this sink stay open."""
        return int(str(self.properties.get(_TXN_TIMEOUT, TRANSACTION_TIMEOUT_MS)))

    def reveal(self) -> dict[str, str | bool]:
        """The sink's producer settings with secrets in clear: for the Producer's constructor and nothing else."""
        return {name: value.reveal() if isinstance(value, Secret) else value for name, value in self.properties.items()}

    def reveal_connection(self) -> dict[str, str | bool]:
        """Only what any client of the cluster needs (addresses, TLS, SASL), for consumers and admin clients."""
        return {name: value for name, value in self.reveal().items() if _any_client(name)}

    def reveal_plain_producer(self) -> dict[str, str | bool]:
        """A producer without a transaction that loses nothing: idempotent, acks=all. For first checkpoint records."""
        return {**self.reveal_connection(), _IDEMPOTENCE: "true", _ACKS: "all", "allow.auto.create.topics": "false"}

    def reveal_checkpoint_producer(self) -> dict[str, str | bool]:
        """A transactional producer with this sink's id, for the checkpoints of an at-least-once sink."""
        timeout = self.transaction_timeout_ms
        return {
            **self.reveal_plain_producer(),
            "transactional.id": self.transactional_id,
            _TXN_TIMEOUT: str(timeout),
            _MESSAGE_TIMEOUT: str(timeout),
        }


def build_client_conf(
    sink: KafkaSinkConfig,
    *,
    transactional_id: str,
    broker_max_transaction_timeout_ms: int = BROKER_MAX_TRANSACTION_TIMEOUT_MS,
    aws_region: str | None = None,
) -> ClientConf:
    """Make the settings of one sink. `aws_region` is for MSK brokers whose names do not tell it.

    Raises:
      ConfigError: the settings cannot work; the text lists every reason.
    """
    judge = _Judge(sink, broker_max_transaction_timeout_ms, aws_region)
    judge.run()
    if judge.findings:
        lines = [f"{finding.where}: {finding.message}" for finding in judge.findings]
        raise ConfigError(f"sink {sink.id}: {'; '.join(lines)}", hint="correct client_conf of this sink")
    properties = {**judge.values}
    if sink.exactly_once:
        properties["transactional.id"] = transactional_id
    return ClientConf(MappingProxyType(properties), transactional_id, judge.oauth, tuple(judge.warnings))


def check_client_conf(sink: KafkaSinkConfig, env: Mapping[str, str]) -> list[Finding]:
    """Everything wrong with a sink's `client_conf`, for the loader. Judges as build_client_conf does."""
    judge = _Judge(sink, BROKER_MAX_TRANSACTION_TIMEOUT_MS, aws_region(env))
    judge.run()
    return judge.findings


def aws_region(env: Mapping[str, str]) -> str | None:
    """The region AWS's tools would use."""
    return env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or None


def _any_client(name: str) -> bool:
    return name in PROPERTIES and not PROPERTIES[name].producer_only and name != _IN_FLIGHT


class _Judge:
    """One pass over one sink: `values` grow into librdkafka's settings while findings and warnings are noted."""

    def __init__(self, sink: KafkaSinkConfig, broker_max_ms: int, region: str | None) -> None:
        self._sink = sink
        self._broker_max_ms = broker_max_ms
        self._region = region
        self._given, self._java, self.findings = read_values(sink.client_conf)
        self.values: dict[str, str | bool | Secret] = {name: given.value for name, given in self._given.items()}
        self.warnings: list[str] = []
        self.oauth: MskIam | None = None

    def run(self) -> None:
        """Apply every rule."""
        if self.findings:
            # A value that is wrong in itself would be wrong again in every rule it takes part in.
            wrong = {finding.where for finding in self.findings}
            self._given = {name: given for name, given in self._given.items() if _where(given) not in wrong}
            self.values = {name: given.value for name, given in self._given.items()}
        self._security()
        self._durability()
        if self._sink.exactly_once:
            self._transaction_timeouts()
        self._orders()
        self._fill_in()

    def _security(self) -> None:
        protocol = self._text("security.protocol") or "plaintext"
        mechanism = self._text("sasl.mechanisms")
        if mechanism == "AWS_MSK_IAM":
            self._msk()
        else:
            for given in self._java.values():
                hint = "write sasl.mechanism: AWS_MSK_IAM, or sasl.username and sasl.password instead"
                self._find(given, "belongs to Java clients and is understood with AWS_MSK_IAM only", hint)
        if protocol.startswith("sasl_"):
            self._sasl(mechanism)
        elif mechanism is not None and not self._wrong("security.protocol"):
            hint = "add security.protocol: SASL_SSL"
            self._find(self._given["sasl.mechanisms"], "has no effect without a SASL protocol", hint)
        if self._text("enable.ssl.certificate.verification") == "false":
            self.warnings.append("enable.ssl.certificate.verification: false accepts any server as the broker")
        if self._text("ssl.endpoint.identification.algorithm") == "none" and protocol.endswith("ssl"):
            self.warnings.append("ssl.endpoint.identification.algorithm: none does not check the broker's name")

    def _sasl(self, mechanism: str | None) -> None:
        protocol = self._given["security.protocol"]
        if mechanism is None:
            if not self._wrong("sasl.mechanism", "sasl.mechanisms"):
                hint = "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, AWS_MSK_IAM"
                self._find(protocol, "a SASL protocol needs sasl.mechanism", hint)
        elif mechanism == "PLAIN" or mechanism.startswith("SCRAM"):
            for name in ("sasl.username", "sasl.password"):
                if name not in self._given and not self._wrong(name):
                    self._find(self._given["sasl.mechanisms"], f"{mechanism} needs {name}", f"add {name}")
        elif mechanism == "OAUTHBEARER" and self._text("sasl.oauthbearer.method") != "oidc":
            if self._text("enable.sasl.oauthbearer.unsecure.jwt") == "true":
                self.warnings.append("enable.sasl.oauthbearer.unsecure.jwt: anybody can make such tokens; tests only")
            else:
                hint = "sasl.oauthbearer.method: oidc"
                self._find(self._given["sasl.mechanisms"], "OAUTHBEARER needs a source of tokens", hint)

    def _msk(self) -> None:
        mechanism = self._given["sasl.mechanisms"]
        jaas, handler = (self._java.get(name) for name in MSK_ONLY)
        if jaas is not None and isinstance(jaas.value, Secret) and not _JAAS.match(jaas.value.reveal()):
            hint = "write 'software.amazon.msk.auth.iam.IAMLoginModule required;'; AWS_PROFILE or a role says the rest"
            self._find(jaas, "only IAMLoginModule without options is understood", hint)
        if handler is not None and handler.value != _HANDLER:
            self._find(handler, "only AWS's IAMClientCallbackHandler is understood", "remove it")
        regions = {match[1] for broker in self._sink.brokers.split(",") if (match := _MSK_HOST.search(broker.strip()))}
        if len(regions) > 1:
            self.findings.append(Finding("brokers", "the brokers are in several AWS regions"))
        region = next(iter(regions), self._region)
        if region is None:
            hint = "name brokers as AWS does (b-1.....kafka.REGION.amazonaws.com:9098), or export AWS_REGION"
            self._find(mechanism, "the AWS region is not known", hint)
        elif not _REGION.match(region):
            self._find(mechanism, "AWS_REGION does not hold a region", "as in eu-west-1")
        else:
            self.oauth = MskIam(region)
        for name in ("sasl.username", "sasl.password"):
            if name in self._given:
                self._find(self._given[name], "has no meaning with AWS_MSK_IAM", "remove it")
        self.values["sasl.mechanisms"] = "OAUTHBEARER"

    def _durability(self) -> None:
        """Rules 3 and 4: acks, idempotence, requests in flight."""
        against = self._against_idempotence()
        asked = self._text(_IDEMPOTENCE)
        if self._sink.exactly_once or asked == "true":
            why = "exactly_once" if self._sink.exactly_once else f"client_conf.{_IDEMPOTENCE}"
            reason = "exactly_once: true" if self._sink.exactly_once else f"{_IDEMPOTENCE}: true"
            for given, needs in against:
                self._find(given, f"{reason} needs {needs}", "change one of the two", also=(why,))
            if self._sink.exactly_once and asked == "false":
                message = "exactly_once: true needs idempotence"
                self._find(self._given[_IDEMPOTENCE], message, "remove it, or write exactly_once: false", also=(why,))
            self.values[_IDEMPOTENCE] = "true"
            return
        if asked is None and not against:
            self.values[_IDEMPOTENCE] = "true"
            return
        self.values[_IDEMPOTENCE] = "false"
        self._without_idempotence(asked, [given.key for given, _ in against])

    def _without_idempotence(self, asked: str | None, keys: list[str]) -> None:
        if asked is None:
            self.warnings.append(f"idempotence is off because of {', '.join(keys)}: a retry can double a record")
        if self._text(_ACKS) == "1":
            self.warnings.append("acks: 1 loses confirmed records when a partition's leader is lost")
        in_flight = self._text(_IN_FLIGHT)
        if in_flight is None:
            self.values[_IN_FLIGHT] = "1"
        elif in_flight != "1":
            key = self._given[_IN_FLIGHT].key
            self.warnings.append(f"{key} above 1 without idempotence: a retry can swap two versions of a row")

    def _against_idempotence(self) -> list[tuple[Given, str]]:
        rules = (
            (_ACKS, lambda value: value == "all", "acks: all"),
            (_IN_FLIGHT, lambda value: int(value) <= 5, "at most 5 requests in flight"),
            (_RETRIES, lambda value: int(value) >= 1, "at least one retry"),
            (_STRATEGY, lambda value: value == "fifo", "queuing.strategy: fifo"),
            (_BACKPRESSURE, lambda value: value == "1", "queue.buffering.backpressure.threshold: 1"),
        )
        return [(self._given[name], needs) for name, holds, needs in rules if (v := self._text(name)) and not holds(v)]

    def _transaction_timeouts(self) -> None:
        """Rule 3: fit the three timeouts into each other, or say which two lines do not fit."""
        message, socket, chosen = (self._number(name) for name in (_MESSAGE_TIMEOUT, _SOCKET_TIMEOUT, _TXN_TIMEOUT))
        limit = self._broker_max_ms
        broker = f"the broker's limit of {limit} ms (transaction.max.timeout.ms)"
        if chosen is not None and chosen > limit:
            self._find(self._given[_TXN_TIMEOUT], f"is above {broker}", "make it smaller, or raise the broker's limit")
        for name, value in ((_MESSAGE_TIMEOUT, message), (_SOCKET_TIMEOUT, socket)):
            if value is None or value == 0:
                continue
            if chosen is not None and value > chosen:
                text = f"has to be at most transaction.timeout.ms ({chosen})"
                also = (_where(self._given[_TXN_TIMEOUT]),)
                self._find(self._given[name], text, "raise transaction.timeout.ms or lower this", also=also)
            elif chosen is None and value > limit:
                text = f"with exactly_once the transaction has to last as long, and that is above {broker}"
                hint = "make it smaller, or raise the broker's limit"
                self._find(self._given[name], text, hint, also=("exactly_once",))
        timeout = chosen or max(min(TRANSACTION_TIMEOUT_MS, limit), message or 0, socket or 0)
        self.values[_TXN_TIMEOUT] = str(timeout)
        self.values.setdefault(_MESSAGE_TIMEOUT, str(timeout))
        self.values.setdefault(_SOCKET_TIMEOUT, str(min(_SOCKET_TIMEOUT_MS, timeout)))

    def _orders(self) -> None:
        """What librdkafka compares on its own."""
        linger, message = self._float(_LINGER), self._number(_MESSAGE_TIMEOUT)
        delivery = float(str(self.values.get(_MESSAGE_TIMEOUT, 300_000))) if message is None else message
        if linger is not None and delivery and linger >= delivery:
            beside: tuple[str, ...] = () if message is None else (_where(self._given[_MESSAGE_TIMEOUT]),)
            self._find(self._given[_LINGER], "has to be less than the delivery timeout", "make it smaller", also=beside)
        low, high = self._number("reconnect.backoff.ms"), self._number("reconnect.backoff.max.ms")
        if low is not None and low > (_BACKOFF_MAX_MS if high is None else high):
            text = f"has to be at most reconnect.backoff.max.ms ({_BACKOFF_MAX_MS if high is None else high})"
            also: tuple[str, ...] = () if high is None else (_where(self._given["reconnect.backoff.max.ms"]),)
            self._find(self._given["reconnect.backoff.ms"], text, "raise the one or lower the other", also=also)
        elif high is not None and low is None and high < 100:
            self._find(self._given["reconnect.backoff.max.ms"], "has to be at least reconnect.backoff.ms (100)")
        if self._text("enable.gapless.guarantee") == "true" and self.values.get(_IDEMPOTENCE) == "false":
            self._find(self._given["enable.gapless.guarantee"], "needs idempotence", "remove it")

    def _fill_in(self) -> None:
        self.values["metadata.broker.list"] = self._sink.brokers
        # Settled by deltaforge: topics never appear by accident, good records make no callback.
        self.values["allow.auto.create.topics"] = "false"
        # A real bool: the Python client refuses text for this one.
        self.values["delivery.report.only.error"] = True
        self.values.pop("partitioner", None)
        for name, value in (
            ("client.id", "deltaforge"),
            (_ACKS, "all"),
            ("queue.buffering.max.kbytes", _QUEUE_KBYTES),
            ("queue.buffering.max.messages", _QUEUE_MESSAGES),
            # As in the Java client: a partition's request does not wait until the one before it was acknowledged.
            ("socket.nagle.disable", "true"),
        ):
            self.values.setdefault(name, value)

    def _text(self, name: str) -> str | None:
        given = self._given.get(name)
        return given.value if given is not None and isinstance(given.value, str) else None

    def _number(self, name: str) -> int | None:
        text = self._text(name)
        return None if text is None else int(text)

    def _float(self, name: str) -> float | None:
        text = self._text(name)
        return None if text is None else float(text)

    def _wrong(self, *keys: str) -> bool:
        """True when one of these was written, but with a problem or misspelt: it is not missing as well."""
        if self._sink.client_conf.broken.intersection(keys):
            return True
        texts = [f"{finding.where} {finding.hint}" for finding in self.findings]
        return any(text.startswith(f"client_conf.{key} ") or f"'{key}'" in text for text in texts for key in keys)

    def _find(self, given: Given, message: str, hint: str = "", *, also: tuple[str, ...] = ()) -> None:
        self.findings.append(Finding(_where(given), message, hint, also))


def _where(given: Given) -> str:
    return f"client_conf.{given.key}"
