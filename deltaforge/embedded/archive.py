"""Kafka's classes as Java has once loaded and linked them: from such an archive (AOT cache, JEP 483) a broker starts in
half the time.

An archive is for one class path and one Java, and lies beside the jars. Nothing needs it: without it all starts more
slowly, and Java ignores one that does not fit.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from deltaforge.embedded.cache import cache_root
from deltaforge.embedded.jars import java_home

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Where it does not fit Java would say so on stdout, which belongs to the program.
_SILENT = ("-Xlog:disable", "-Xlog:all=warning:stderr")


def place(jars: Sequence[Path]) -> Path:
    """Where the archive for these jars is, or would be."""
    said = "\n".join([(java_home() / "release").read_text(), *map(str, jars)])
    return cache_root() / "jars" / f"{hashlib.sha256(said.encode()).hexdigest()[:16]}.aot"


def options(jars: Sequence[Path]) -> list[str]:
    """Java's options for a program on this class path; none when there is no archive."""
    found = place(jars)
    return [f"-XX:AOTCache={os.fspath(found)}", *_SILENT] if found.is_file() else []


def recording(file: Path) -> list[str]:
    """Java's options for a program that leaves an archive in `file` when it ends."""
    return [f"-XX:AOTCacheOutput={os.fspath(file)}"]
