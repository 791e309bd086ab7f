"""The configuration of the Kafka nodes for demo and tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deltaforge.embedded.kafka_conf import Listener, NodePlan, NodePorts, render, server_properties


def _plan(nodes: int, *, listeners: tuple[Listener, ...] = (Listener.PLAINTEXT,)) -> NodePlan:
    ports = [
        NodePorts(9000 + number, {listener: 9100 + 10 * number + place for place, listener in enumerate(listeners)})
        for number in range(nodes)
    ]
    store = Path("/keys.pem") if len(listeners) > 1 else None
    return NodePlan(nodes, Path("/data"), ports, store, store, {})


@pytest.mark.parametrize(("nodes", "replicas", "in_sync"), [(1, "1", "1"), (3, "3", "2")])
def test_internal_topics_fit_the_number_of_nodes(nodes: int, replicas: str, in_sync: str) -> None:
    """Guards against a first transaction that waits for ever for brokers that do not exist."""
    properties = server_properties(_plan(nodes))
    for name in ("transaction.state.log", "offsets.topic", "share.coordinator.state.topic"):
        assert properties[f"{name}.replication.factor"] == replicas
    assert properties["transaction.state.log.min.isr"] == properties["min.insync.replicas"] == in_sync
    assert properties["controller.quorum.voters"].count("@") == nodes


def test_everything_listens_on_loopback_only() -> None:
    """Guards against a demo that opens a broker to the network."""
    properties = server_properties(_plan(3, listeners=tuple(Listener)))
    for name in ("listeners", "advertised.listeners"):
        assert all("://127.0.0.1:" in address for address in properties[name].split(","))


def test_a_listener_behind_a_proxy_advertises_the_proxys_port_and_listens_on_its_own() -> None:
    """Guards against clients that reconnect past the proxy, to the address that the broker told them."""
    ports = NodePorts(9000, {Listener.PLAINTEXT: 9100, Listener.PROXIED: 9101}, {Listener.PROXIED: "127.0.0.1:9999"})
    properties = server_properties(replace(_plan(1), ports=[ports]))
    assert properties["listeners"].split(",")[:2] == ["PLAINTEXT://127.0.0.1:9100", "PROXIED://127.0.0.1:9101"]
    assert properties["advertised.listeners"] == "PLAINTEXT://127.0.0.1:9100,PROXIED://127.0.0.1:9999"


def test_the_controller_is_not_offered_to_clients() -> None:
    """Guards against a broker that refuses to start because it advertises its controller."""
    assert "CONTROLLER" not in server_properties(_plan(1))["advertised.listeners"]


def test_oauth_needs_no_certificates() -> None:
    """Guards against asking for certificates where a test of tokens needs none."""
    plan = _plan(1, listeners=(Listener.PLAINTEXT, Listener.OAUTH))
    bare = replace(plan, key_store=None, trust_store=None)
    assert "OAUTH:SASL_PLAINTEXT" in server_properties(bare)["listener.security.protocol.map"]
    assert "OAUTH:SASL_SSL" in server_properties(plan)["listener.security.protocol.map"]


def test_the_callers_options_win() -> None:
    """Guards against options that are taken and then overridden."""
    plan = replace(_plan(1), options={"auto.create.topics.enable": "true"})
    assert server_properties(plan)["auto.create.topics.enable"] == "true"


def test_a_property_with_a_backslash_is_what_java_reads_back() -> None:
    """Guards against a path or password that Java's reader of properties would change."""
    assert render({"a": "b\\c\nd"}) == "a=b\\\\c\\nd\n"
