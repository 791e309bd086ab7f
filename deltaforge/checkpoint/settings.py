"""How a checkpoint topic has to be set up, and which client properties its clients take over from the sink. Pure.

The topic is the only place where the position lives, so its settings decide whether it can be lost: it must be
compacted and nothing else (`delete` would drop the record after the retention time), it has one partition (one order of
records), and an unclean leader election could bring an older record back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltaforge.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

SEGMENT_BYTES = 4 << 20
SEGMENT_MS = 600_000

_CONNECTION = (
    "api.version.",
    "bootstrap.servers",
    "broker.address.",
    "client.dns.lookup",
    "client.id",
    "enable.sasl.",
    "enable.ssl.",
    "https.",
    "log_level",
    "metadata.broker.list",
    "metadata.recovery.",
    "oauth_cb",
    "reconnect.",
    "retry.backoff.",
    "sasl.",
    "security.",
    "socket.",
    "ssl.",
    "ssl_",
    "test.mock.",
)


def connection_properties(properties: Mapping[str, object]) -> dict[str, object]:
    """The properties that say how to reach and to convince the brokers; those of producing stay behind."""
    return {key: value for key, value in properties.items() if key.startswith(_CONNECTION)}


def topic_settings(min_insync: str | None) -> dict[str, str]:
    """The configuration of a new checkpoint topic. `min_insync` None = the broker's default."""
    settings = {
        "cleanup.policy": "compact",
        # The record is rewritten at every Kafka transaction; small segments let the cleaner keep up, or reading the
        # topic at start would take minutes.
        "segment.bytes": str(SEGMENT_BYTES),
        "segment.ms": str(SEGMENT_MS),
        "min.cleanable.dirty.ratio": "0.01",
        "unclean.leader.election.enable": "false",
    }
    return settings if min_insync is None else settings | {"min.insync.replicas": min_insync}


def check(topic: str, partitions: int, settings: Mapping[str, str | None]) -> None:
    """Judge an existing checkpoint topic.

    Raises:
      Refused: a checkpoint in it could be lost.
    """
    cleanup = {word.strip() for word in (settings.get("cleanup.policy") or "").split(",")}
    if cleanup != {"compact"}:
        raise Refused(
            f'checkpoint topic "{topic}" has cleanup.policy={settings.get("cleanup.policy")}: its record '
            "would be deleted and with it the position",
            hint=f"run: kafka-configs.sh --alter --entity-type topics --entity-name {topic} "
            "--add-config cleanup.policy=compact",
        )
    if (settings.get("unclean.leader.election.enable") or "false").lower() == "true":
        raise Refused(
            f'checkpoint topic "{topic}" has unclean.leader.election.enable=true: an election could bring an older '
            "position back and rows would be repeated",
            hint=f"run: kafka-configs.sh --alter --entity-type topics --entity-name {topic} "
            "--add-config unclean.leader.election.enable=false",
        )
    if partitions != 1:
        raise Refused(
            f'checkpoint topic "{topic}" has {partitions} partitions, expected 1: its records have no common order',
            hint="the topic was not created by deltaforge; give the pipeline or the sink another name, or recreate it",
        )
