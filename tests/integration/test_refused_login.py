"""A producer that no broker lets in, while the stream waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from deltaforge.sinks.kafka import actor, patience
from tests.support.kafka_clients import scram_conf
from tests.support.kafka_rig import KafkaRig
from tests.support.sink_rig import keep_running, part

if TYPE_CHECKING:
    from deltaforge.embedded.kafka import KafkaCluster
    from tests.support.fix_tls import Certificates

LIMIT_S = 90.0


@pytest.mark.fault("K15")
@pytest.mark.slow
async def test_a_refused_login_is_tried_again_with_new_clients_on_the_same_stream(
    kafka3: KafkaCluster, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a client that tries its old password for ever, and against streams begun anew for nothing."""
    monkeypatch.setattr(patience, "_HOPELESS_S", 1.0)
    monkeypatch.setattr(actor, "_MAX_DELAY_S", 0.5)
    rig = KafkaRig(kafka3.bootstrap(), exactly_once=True)
    login = scram_conf(kafka3, certificates)
    rig.properties |= login | {"sasl.password": "canary-wrong-7Yq"}
    restarts: list[str] = []
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(keep_running, rig.sink, restarts)
            # GIVEN a stream that begins, and a login that is refused again and again
            await rig.handles.begin(1)
            await rig.handles.feed(part(1, 10, 0, 2, 12))
            while rig.sink().statistics().aborts < 2:  # noqa: ASYNC110 - a number
                await trio.sleep(0.05)
            assert rig.handles.gate.value == 0
            state, detail = rig.handles.reports[-1]
            assert (state, "canary" in detail) == ("blocked", False)
            # WHEN it is accepted
            rig.properties |= login
            # THEN the same stream goes on, with all that it had brought
            await rig.handles.until_durable(12)
            rig.handles.inbox.close()
        # A commit is decided before its markers are in the partitions of all brokers.
        while len(found := rig.delivered()) < 2:  # noqa: ASYNC110 - a topic
            await trio.sleep(0.1)
    assert found == ["1.0", "1.1"]
    assert restarts == []
    assert rig.handles.rewind.value == 0
