"""What a run was made with: versions of the interpreter, the libraries and the servers."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version

import confluent_kafka
from psycopg import pq

from deltaforge.embedded.binaries import find_bin_dir
from deltaforge.embedded.errors import BinariesMissing, DemoPackagesMissing
from deltaforge.embedded.jars import KAFKA_VERSION

_MAJORS = (14, 15, 16, 17, 18)


def versions() -> dict[str, str]:
    """Name to version. A PostgreSQL that is not on this machine is left out."""
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "deltaforge": version("deltaforge"),
        "trio": version("trio"),
        "librdkafka": str(confluent_kafka.libversion()[0]),
        "libpq": "{}.{}".format(*divmod(pq.version(), 10_000)),
        "postgresql": ", ".join(filter(None, map(_postgres, _MAJORS))),
        "kafka": KAFKA_VERSION,
    }


def _postgres(major: int) -> str:
    """`18.4`, or nothing."""
    try:
        program = find_bin_dir(major) / "postgres"
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    except (BinariesMissing, DemoPackagesMissing, OSError, subprocess.CalledProcessError):
        return ""
    words = said.split()
    return words[2] if len(words) > 2 else ""
