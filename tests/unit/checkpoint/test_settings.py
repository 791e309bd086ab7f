"""What a checkpoint topic must look like, and what its clients take over from the sink."""

from __future__ import annotations

import pytest

from deltaforge.checkpoint.settings import check, connection_properties, topic_settings
from deltaforge.errors import Refused

FIT: dict[str, str | None] = {"cleanup.policy": "compact", "unclean.leader.election.enable": "false"}


@pytest.mark.parametrize("min_insync", [None, "2"])
def test_a_topic_made_by_us_passes_our_own_check(min_insync: str | None) -> None:
    """Guards against creating at the first start what the second start refuses."""
    made = topic_settings(min_insync)
    check("c", 1, dict(made))
    assert made.get("min.insync.replicas") == min_insync


@pytest.mark.parametrize(
    ("partitions", "change", "words"),
    [
        (1, {"cleanup.policy": "delete"}, "cleanup.policy"),
        (1, {"cleanup.policy": "delete, compact"}, "cleanup.policy"),
        (1, {"cleanup.policy": None}, "cleanup.policy"),
        (1, {"unclean.leader.election.enable": "TRUE"}, "unclean"),
        (2, {}, "2 partitions"),
    ],
)
def test_what_could_lose_the_position_is_refused_with_the_way_out(
    partitions: int, change: dict[str, str | None], words: str
) -> None:
    """Guards the only place where the position lives."""
    with pytest.raises(Refused, match=words) as refused:
        check("c", partitions, FIT | change)
    assert refused.value.hint


def test_only_what_makes_the_connection_is_taken_over() -> None:
    """Guards a transactional.id above all: a reader with it would shut out the sink itself."""
    connection = {
        "bootstrap.servers": "b:9092",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.password": "x",
        "ssl.ca.location": "/ca",
        "ssl.endpoint.identification.algorithm": "https",
        "oauth_cb": print,
        "client.id": "df",
        "socket.keepalive.enable": True,
        "enable.ssl.certificate.verification": True,
    }
    producing = {
        "transactional.id": "deltaforge.p.s",
        "enable.idempotence": True,
        "acks": "all",
        "linger.ms": 5,
        "compression.type": "lz4",
        "message.timeout.ms": 300000,
        "transaction.timeout.ms": 300000,
        "delivery.report.only.error": True,
        "logger": None,
        "on_delivery": None,
    }
    assert connection_properties(connection | producing) == connection
