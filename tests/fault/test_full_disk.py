"""The broker's disk is full, on a file system of the broker's own."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.fault.sizes import FULL
from tests.fault.stages import LoadedStage
from tests.nemesis.stage import Servers
from tests.proxy.cluster import ProxiedKafka
from tests.support.mounts import small_disk
from tests.support.orders import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.fault("K8")]

SIZE_MB = 96
_PIECE = bytes(1 << 16)
# Little of the disk goes to what the broker keeps for itself.
SMALL = {
    "log.cleaner.dedupe.buffer.size": "8388608",
    "log.segment.bytes": "8388608",
    "log.index.size.max.bytes": "65536",
}


@pytest.fixture
def servers(kafka_jars: None) -> Iterator[Servers]:
    """A broker whose data lie on a small file system."""
    made = Servers(kafka=ProxiedKafka(1, options=SMALL))
    directory, data = made.kafka.cluster.directory, made.kafka.cluster.node(1).data
    data.mkdir(parents=True)
    try:
        with small_disk(data, SIZE_MB), made:
            yield made
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _fill(file: Path) -> None:
    """Take all the space that is left."""
    with file.open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while True:
            ballast.write(_PIECE)
    assert shutil.disk_usage(file.parent).free < len(_PIECE)


if FULL:

    def test_a_broker_without_space_is_waited_for_and_its_log_believed(
        servers: Servers,
        tmp_path: Path,
        record_property: Callable[[str, object], None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Guards against rows counted as delivered that the disk had no place for, and a checkpoint half written."""
        with LoadedStage(servers, "disk", 81, tmp_path) as stage:
            node = stage.kafka.cluster.node(1)
            stage.recover()
            # WHEN nothing fits on the disk any more
            ballast = node.data / "ballast"
            _fill(ballast)
            # THEN the broker gives up, and the pipeline says what it waits for
            wait_until(lambda: not node.running, "the broker gives up", stage.alive)
            detail = stage.wait_told("starting", "brokers")
            confirmed = stage.confirmed()
            # AND goes on when there is space, with what the broker had taken
            ballast.unlink()
            stage.kafka.cluster.start_node(1)
            assert stage.confirmed() == confirmed
            stage.recover()
            aborts = stage.aborts()
            verdict = stage.settle()
        record_property("verdict", verdict.totals)
        with capsys.disabled():
            print(
                f"\ndisk full: {detail}; next event after {stage.recovered_s[-1]:.1f} s, {aborts} given up; {verdict}"
            )
        assert verdict.clean, str(verdict)
