"""The producer properties of librdkafka 2.16.0, as its own `rd_kafka_conf_properties_show` lists them.

One line each: name, scope (P producer, * any client), then `=canonical name` for an alias or the type with its range
or its words. A test creates a real producer to hold the names against the librdkafka that is installed.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

LIBRDKAFKA_VERSION: Final = "2.16.0"

Kind = Literal["int", "float", "bool", "enum", "flags", "text"]


class Property(NamedTuple):
    """What librdkafka says about one property."""

    name: str
    producer_only: bool
    kind: Kind
    low: int = 0
    high: int = 0
    words: tuple[str, ...] = ()


_TABLE: Final = """
builtin.features * flags
client.id * text
metadata.broker.list * text
bootstrap.servers * =metadata.broker.list
message.max.bytes * int 1000..1000000000
message.copy.max.bytes * int 0..1000000000
receive.message.max.bytes * int 1000..2147483647
max.in.flight.requests.per.connection * int 1..1000000
max.in.flight * =max.in.flight.requests.per.connection
metadata.recovery.strategy * enum none,rebootstrap
metadata.recovery.rebootstrap.trigger.ms * int 0..2147483647
topic.metadata.refresh.interval.ms * int -1..3600000
metadata.max.age.ms * int 1..86400000
topic.metadata.refresh.fast.interval.ms * int 1..60000
topic.metadata.refresh.fast.cnt * int 0..1000
topic.metadata.refresh.sparse * bool
topic.metadata.propagation.max.ms * int 0..3600000
topic.blacklist * text
debug * flags generic,broker,topic,metadata,feature,queue,msg,protocol,cgrp,security,fetch,interceptor,plugin,consumer,admin,eos,mock,assignor,conf,telemetry,all
socket.timeout.ms * int 10..300000
socket.blocking.max.ms * int 1..60000
socket.send.buffer.bytes * int 0..100000000
socket.receive.buffer.bytes * int 0..100000000
socket.keepalive.enable * bool
socket.nagle.disable * bool
socket.max.fails * int 0..1000000
broker.address.ttl * int 0..86400000
broker.address.family * enum any,v4,v6
socket.connection.setup.timeout.ms * int 1000..2147483647
connections.max.idle.ms * int 0..2147483647
reconnect.backoff.jitter.ms * int 0..3600000
reconnect.backoff.ms * int 0..3600000
reconnect.backoff.max.ms * int 0..3600000
statistics.interval.ms * int 0..86400000
enabled_events * int 0..2147483647
log_level * int 0..7
log.queue * bool
log.thread.name * bool
enable.random.seed * bool
log.connection.close * bool
internal.termination.signal * int 0..128
api.version.request * bool
api.version.request.timeout.ms * int 1..300000
api.version.fallback.ms * int 0..604800000
broker.version.fallback * text
allow.auto.create.topics * bool
security.protocol * enum plaintext,ssl,sasl_plaintext,sasl_ssl
ssl.cipher.suites * text
ssl.curves.list * text
ssl.sigalgs.list * text
ssl.key.location * text
ssl.key.password * text
ssl.key.pem * text
ssl.certificate.location * text
ssl.certificate.pem * text
ssl.ca.location * text
https.ca.location * text
https.ca.pem * text
ssl.ca.pem * text
ssl.ca.certificate.stores * text
ssl.crl.location * text
ssl.keystore.location * text
ssl.keystore.password * text
ssl.providers * text
ssl.engine.location * text
ssl.engine.id * text
enable.ssl.certificate.verification * bool
ssl.endpoint.identification.algorithm * enum none,https
sasl.mechanisms * text
sasl.mechanism * =sasl.mechanisms
sasl.kerberos.service.name * text
sasl.kerberos.principal * text
sasl.kerberos.kinit.cmd * text
sasl.kerberos.keytab * text
sasl.kerberos.min.time.before.relogin * int 0..86400000
sasl.username * text
sasl.password * text
sasl.oauthbearer.config * text
enable.sasl.oauthbearer.unsecure.jwt * bool
sasl.oauthbearer.method * enum default,oidc
sasl.oauthbearer.client.id * text
sasl.oauthbearer.client.credentials.client.id * =sasl.oauthbearer.client.id
sasl.oauthbearer.client.credentials.client.secret * =sasl.oauthbearer.client.secret
sasl.oauthbearer.client.secret * text
sasl.oauthbearer.scope * text
sasl.oauthbearer.extensions * text
sasl.oauthbearer.token.endpoint.url * text
sasl.oauthbearer.sub.claim.name * text
sasl.oauthbearer.grant.type * enum client_credentials,urn:ietf:params:oauth:grant-type:jwt-bearer
sasl.oauthbearer.assertion.algorithm * enum RS256,ES256
sasl.oauthbearer.assertion.private.key.file * text
sasl.oauthbearer.assertion.private.key.passphrase * text
sasl.oauthbearer.assertion.private.key.pem * text
sasl.oauthbearer.assertion.file * text
sasl.oauthbearer.assertion.claim.aud * text
sasl.oauthbearer.assertion.claim.exp.seconds * int 1..2147483647
sasl.oauthbearer.assertion.claim.iss * text
sasl.oauthbearer.assertion.claim.jti.include * bool
sasl.oauthbearer.assertion.claim.nbf.seconds * int 0..2147483647
sasl.oauthbearer.assertion.claim.sub * text
sasl.oauthbearer.assertion.jwt.template.file * text
sasl.oauthbearer.metadata.authentication.type * enum none,azure_imds,aws_iam
plugin.library.paths * text
client.rack * text
transactional.id P text
transaction.timeout.ms P int 1000..2147483647
enable.idempotence P bool
enable.gapless.guarantee P bool
queue.buffering.max.messages P int 0..2147483647
queue.buffering.max.kbytes P int 1..2147483647
queue.buffering.max.ms P float 0..900000
linger.ms P =queue.buffering.max.ms
message.send.max.retries P int 0..2147483647
retries P =message.send.max.retries
retry.backoff.ms * int 1..300000
retry.backoff.max.ms * int 1..300000
queue.buffering.backpressure.threshold P int 1..1000000
compression.codec P enum none,gzip,snappy,lz4,zstd
compression.type P =compression.codec
batch.num.messages P int 1..1000000
batch.size P int 1..2147483647
delivery.report.only.error P bool
sticky.partitioning.linger.ms P int 0..900000
client.dns.lookup * enum use_all_dns_ips,resolve_canonical_bootstrap_servers_only
enable.metrics.push * bool
request.required.acks P int -1..1000
acks P =request.required.acks
request.timeout.ms P int 1..900000
message.timeout.ms P int 0..2147483647
delivery.timeout.ms P =message.timeout.ms
queuing.strategy P enum fifo,lifo
produce.offset.report P bool
partitioner P text
compression.level P int -1..12
"""  # noqa: E501 - one line each

_HOOKS: Final = """
background_event_cb closesocket_cb connect_cb default_topic_conf dr_cb dr_msg_cb error_cb interceptors log_cb
msg_order_cmp oauthbearer_token_refresh_cb opaque open_cb partitioner_cb resolve_cb socket_cb
ssl.certificate.verify_cb ssl_ca ssl_certificate ssl_engine_callback_data ssl_key stats_cb throttle_cb
"""

_CONSUMER_ONLY: Final = """
auto.commit.enable auto.commit.interval.ms auto.offset.reset check.crcs consume.callback.max.messages
consume_cb coordinator.query.interval.ms enable.auto.commit enable.auto.offset.store enable.partition.eof
fetch.error.backoff.ms fetch.max.bytes fetch.message.max.bytes fetch.min.bytes fetch.queue.backoff.ms
fetch.wait.max.ms group.id group.instance.id group.protocol group.protocol.type group.remote.assignor
heartbeat.interval.ms isolation.level max.partition.fetch.bytes max.poll.interval.ms max.poll.records
offset.store.method offset.store.path offset.store.sync.interval.ms offset_commit_cb
partition.assignment.strategy queued.max.messages.kbytes queued.min.messages rebalance_cb session.timeout.ms
share.acknowledgement.mode
"""


def _read() -> tuple[dict[str, Property], dict[str, str]]:
    properties: dict[str, Property] = {}
    aliases: dict[str, str] = {}
    for line in _TABLE.split("\n"):
        name, _, rest = line.partition(" ")
        scope, _, shape = rest.partition(" ")
        kind, _, limits = shape.partition(" ")
        if kind.startswith("="):
            aliases[name] = kind[1:]
        elif name:
            properties[name] = _property(name, scope == "P", kind, limits)
    return properties, aliases


def _property(name: str, producer_only: bool, kind: str, limits: str) -> Property:
    match kind:
        case "int" | "float":
            low, _, high = limits.partition("..")
            return Property(name, producer_only, kind, int(low), int(high))
        case "enum" | "flags":
            return Property(name, producer_only, kind, words=tuple(limits.split(",")))
        case "bool":
            return Property(name, producer_only, "bool")
        case _:
            return Property(name, producer_only, "text")


PROPERTIES, ALIASES = _read()
"""By canonical name; and from alias to canonical name."""

HOOKS: Final = frozenset(_HOOKS.split())
"""Callbacks and pointers: they exist, but no text can set them."""

CONSUMER_ONLY: Final = frozenset(_CONSUMER_ONLY.split())
