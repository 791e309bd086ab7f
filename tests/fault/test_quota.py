"""A broker that takes far less than is written: its quota throttles us, which is back-pressure and no failure."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.fault.sizes import FULL
from tests.fault.stages import LoadedStage
from tests.nemesis.stage import Servers
from tests.support.kafka_tools import tool_lines
from tests.support.outage import resources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

QUOTA = 50_000
"""Bytes a second, as the broker counts them: compressed."""
THROTTLED_S = 60.0
"""In the first third the buffers fill."""
GROWTH = 1.1
MEMORY = 96 * 2**20
"""What a pipeline may have under way, and as much again for what is on its way through librdkafka."""
BEHIND = 5000
"""Events that wait at the end of the quota, or it was none."""


class Busy(LoadedStage):
    """Writes several times of what the quota lets through."""

    rows_per_s = 2500.0


@pytest.fixture(scope="module")
def servers(kafka_jars: None) -> Iterator[Servers]:
    """PostgreSQL and a broker, behind proxies."""
    with Servers() as made:
        yield made


def _quota(stage: LoadedStage, change: str, config: str) -> None:
    whose = ["--entity-type", "clients", "--entity-default"]
    arguments = ["--bootstrap-server", stage.kafka.direct, "--alter", *whose, change, config]
    with tool_lines("kafka.admin.ConfigCommand", *arguments) as lines:
        for _ in lines:
            pass


def _behind(stage: LoadedStage) -> int:
    """Row changes that are written and that nobody has read."""
    return stage.load.rows - stage.witness.count


if FULL:

    @pytest.mark.fault("K9")
    @pytest.mark.slow
    def test_a_quota_far_below_the_load_is_waited_out_in_constant_memory(
        servers: Servers,
        tmp_path: Path,
        record_property: Callable[[str, object], None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Guards against throttled records that are taken for lost ones, and against rows that pile up in memory."""
        with Busy(servers, "quota", 9, tmp_path) as stage:
            stage.recover()
            # WHEN the broker takes only a part of what is written
            before, at_first = _behind(stage), resources(stage.product).rss
            _quota(stage, "--add-config", f"producer_byte_rate={QUOTA}")
            looks = []
            until = time.monotonic() + THROTTLED_S
            while time.monotonic() < until:
                time.sleep(THROTTLED_S / 30)
                looks.append(resources(stage.product).rss)
            behind, aborts, view = _behind(stage), stage.aborts(), stage.view()
            # THEN it falls behind, gives up nothing and holds no more than at first
            _quota(stage, "--delete-config", "producer_byte_rate")
            stage.recover()
            verdict = stage.settle()
        third = len(looks) // 3
        early, late = max(looks[third : 2 * third]), max(looks[2 * third :])
        record_property("verdict", verdict.totals)
        with capsys.disabled():
            print(
                f"\n{QUOTA / 1000:.0f} kB/s for {THROTTLED_S:.0f} s: {before} -> {behind} events behind, "
                f"{aborts} given up, RSS {at_first / 2**20:.0f} -> {early / 2**20:.0f} -> {late / 2**20:.0f} MiB, "
                f"{view['state']}; {verdict}"
            )
        assert behind > before + BEHIND
        assert aborts == 0
        assert late <= GROWTH * early
        assert late <= at_first + MEMORY
        assert view["state"] == "running"
        assert verdict.clean, str(verdict)
