"""Have ready what the first start of Kafka would have to fetch, and what makes later ones faster.

Run it by `python -m deltaforge.embedded.prepare`.
"""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from deltaforge.embedded.archive import place, recording
from deltaforge.embedded.errors import EmbeddedError
from deltaforge.embedded.jars import class_path
from deltaforge.embedded.kafka import KafkaCluster

if TYPE_CHECKING:
    from collections.abc import Callable

_END_S = 120.0
"""A broker writes the archive after it has stopped."""


def prepare(progress: Callable[[str], None]) -> None:
    """Fetch the jars, then let a broker start and stop for the archive. Does nothing that is done.

    The archive is left out when another process is making it, or when it cannot be made: nothing needs it.

    Raises:
      DemoPackagesMissing, EmbeddedError: the jars cannot be had.
    """
    archive = place(class_path(progress=progress))
    if archive.is_file():
        return
    try:
        with archive.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not archive.is_file():
                progress("letting Kafka start once, so that Java starts faster from now on")
                _make(archive)
    except BlockingIOError:
        return
    except (OSError, EmbeddedError) as error:
        progress(f"no archive of Kafka's classes: {error}")


def _make(archive: Path) -> None:
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        made = Path(scratch) / archive.name
        with KafkaCluster(java_options=recording(made)) as cluster:
            cluster.stop(grace_s=_END_S)
        # Complete or not there at all, also after a loss of power.
        with made.open("rb") as whole:
            os.fsync(whole.fileno())
        made.replace(archive)


if __name__ == "__main__":
    prepare(lambda line: print(line, file=sys.stderr, flush=True))
