"""An older state of a broker's log put back in its place: what an unclean restart or a restored disk leaves."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deltaforge.embedded.kafka import KafkaNode


class LogCopy:
    """Partitions of one node as they were, or all that it has; removed when the `with` block ends."""

    def __init__(self, node: KafkaNode, topics: Sequence[str] | None = None) -> None:
        """Copy now, while the node runs or not: what is copied of a running one is what a crash would leave.

        Args: topics: partitions of these; None = everything the node has.
        """
        self._node = node
        self._topics = topics
        self._kept = Path(tempfile.mkdtemp(prefix="deltaforge-log-"))
        for folder in self._folders():
            # Index files are made long and mostly empty.
            subprocess.run(["cp", "-a", "--sparse=always", str(folder), str(self._kept)], check=True)

    def put_back(self) -> None:
        """Take the place of what the node has now. The node must not run."""
        assert not self._node.running
        for folder in self._folders():
            shutil.rmtree(folder)
        for folder in self._kept.iterdir():
            target = self._node.data if self._topics is None else self._node.data / folder.name
            subprocess.run(["cp", "-a", "--sparse=always", str(folder), str(target)], check=True)

    def _folders(self) -> list[Path]:
        if self._topics is None:
            return [self._node.data]
        return [folder for topic in self._topics for folder in sorted(self._node.data.glob(f"{topic}-*"))]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._kept)
