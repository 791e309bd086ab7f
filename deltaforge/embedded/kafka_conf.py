"""The server.properties of one node: KRaft, broker and controller in one process. Pure.

Listeners, all on 127.0.0.1: PLAINTEXT (always: administration and tests), CONTROLLER, and as asked for SASL
(SASL_SSL, SCRAM-SHA-512), MTLS (SSL, client certificate required), OAUTH (SASL_SSL or SASL_PLAINTEXT, OAUTHBEARER
with unsecured tokens, which Kafka means for tests alone) and PROXIED (PLAINTEXT, for clients behind a proxy).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from deltaforge.embedded.ports import HOST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class Listener(StrEnum):
    """What clients can be given to connect to."""

    PLAINTEXT = "PLAINTEXT"
    SASL = "SASL"
    MTLS = "MTLS"
    OAUTH = "OAUTH"
    PROXIED = "PROXIED"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files for the encrypted listeners; the private key must be unencrypted PKCS#8, Java reads no other."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class NodePorts:
    """The ports of one node: one for each listener, and the controller's."""

    controller: int
    listeners: Mapping[Listener, int]
    proxies: Mapping[Listener, str] = field(default_factory=dict)
    """What clients of a listener are told instead of its address: something that forwards to it listens there."""

    def advertised(self, listener: Listener) -> str:
        """Where clients of this listener connect to: host and port."""
        return self.proxies.get(listener) or f"{HOST}:{self.listeners[listener]}"


@dataclass(frozen=True, slots=True)
class NodePlan:
    """All that one node's configuration depends on."""

    node_id: int
    data: Path
    ports: Sequence[NodePorts]
    key_store: Path | None
    trust_store: Path | None
    options: Mapping[str, str]


_LOGIN = "org.apache.kafka.common.security"


def server_properties(plan: NodePlan) -> dict[str, str]:
    """The properties of the node; `plan.options` win over all others."""
    properties = _base(plan) | _durability(len(plan.ports)) | _listeners(plan)
    if plan.key_store is not None and plan.trust_store is not None:
        properties |= {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(plan.key_store),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(plan.trust_store),
        }
    return properties | dict(plan.options)


def render(properties: Mapping[str, str]) -> str:
    """The text of a Java properties file."""
    return "".join(f"{name}={_escaped(value)}\n" for name, value in properties.items())


def _base(plan: NodePlan) -> dict[str, str]:
    voters = ",".join(f"{number}@{HOST}:{ports.controller}" for number, ports in enumerate(plan.ports, start=1))
    return {
        "process.roles": "broker,controller",
        "node.id": str(plan.node_id),
        "controller.quorum.voters": voters,
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(plan.data),
        "auto.create.topics.enable": "false",
        "num.partitions": "1",
        # Small machines, short lives: little memory and few threads, no waiting for group members.
        "num.network.threads": "2",
        "num.io.threads": "4",
        "num.recovery.threads.per.data.dir": "1",
        "background.threads": "2",
        "log.cleaner.threads": "1",
        "log.cleaner.dedupe.buffer.size": "16777216",
        "log.segment.bytes": "67108864",
        "group.initial.rebalance.delay.ms": "0",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.num.partitions": "4",
        # A killed broker may come back only when its old registration has run out: 9 s by default.
        "broker.session.timeout.ms": "5000",
        "broker.heartbeat.interval.ms": "1000",
    }


def _durability(nodes: int) -> dict[str, str]:
    replicas, in_sync = min(nodes, 3), 2 if nodes >= 3 else 1
    return {
        "default.replication.factor": str(replicas),
        "min.insync.replicas": str(in_sync),
        "offsets.topic.replication.factor": str(replicas),
        "transaction.state.log.replication.factor": str(replicas),
        "transaction.state.log.min.isr": str(in_sync),
        "share.coordinator.state.topic.replication.factor": str(replicas),
        "share.coordinator.state.topic.min.isr": str(in_sync),
    }


def _listeners(plan: NodePlan) -> dict[str, str]:
    ports = plan.ports[plan.node_id - 1]
    named = {str(listener): port for listener, port in ports.listeners.items()}
    encrypted = plan.key_store is not None
    protocols = {
        Listener.PLAINTEXT: "PLAINTEXT",
        Listener.SASL: "SASL_SSL",
        Listener.MTLS: "SSL",
        Listener.OAUTH: "SASL_SSL" if encrypted else "SASL_PLAINTEXT",
        Listener.PROXIED: "PLAINTEXT",
    }
    everything = {**named, "CONTROLLER": ports.controller}
    properties = {
        "listeners": ",".join(f"{name}://{HOST}:{port}" for name, port in everything.items()),
        "advertised.listeners": ",".join(f"{name}://{ports.advertised(Listener(name))}" for name in named),
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": ",".join(
            [f"{name}:{protocols[Listener(name)]}" for name in named] + ["CONTROLLER:PLAINTEXT"]
        ),
    }
    if Listener.SASL in ports.listeners:
        properties |= {
            "listener.name.sasl.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.sasl.scram-sha-512.sasl.jaas.config": f"{_LOGIN}.scram.ScramLoginModule required;",
        }
    if Listener.MTLS in ports.listeners:
        properties["listener.name.mtls.ssl.client.auth"] = "required"
    if Listener.OAUTH in ports.listeners:
        module = f"{_LOGIN}.oauthbearer.OAuthBearerLoginModule required"
        properties |= {
            "listener.name.oauth.sasl.enabled.mechanisms": "OAUTHBEARER",
            "listener.name.oauth.oauthbearer.sasl.jaas.config": f'{module} unsecuredLoginStringClaim_sub="broker";',
        }
    return properties


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")
