"""Kafka's classes as Java has once loaded and linked them: from such an archive (AOT cache, JEP 483) a broker starts in
half the time.

An archive is for these very jars and one Java, and lies beside them. Nothing needs it: without it all starts more
slowly, and Java ignores one that is not for it. What is inside is not looked through, which would take half of the
gain: should a disk have damaged it, remove it.
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

# Java would say on stdout, which belongs to the program, what it leaves out of an archive, and that one does not fit.
_SILENT = ("-Xlog:disable", "-Xlog:all=warning,aot*=off:stderr")


def place(jars: Sequence[Path]) -> Path:
    """Where the archive for these jars is, or would be."""
    # As Java does, which refuses one for a jar that is older or newer.
    seen = [f"{jar} {jar.stat().st_size} {jar.stat().st_mtime_ns}" for jar in jars]
    said = "\n".join([(java_home() / "release").read_text(), *seen])
    return cache_root() / "jars" / f"{hashlib.sha256(said.encode()).hexdigest()[:16]}.aot"


def options(jars: Sequence[Path]) -> list[str]:
    """Java's options for a program on this class path; none when there is no archive."""
    found = place(jars)
    return [f"-XX:AOTCache={os.fspath(found)}", *_SILENT] if found.is_file() else []


def recording(file: Path) -> list[str]:
    """Java's options for a program that leaves an archive in `file` when it ends."""
    return [f"-XX:AOTCacheOutput={os.fspath(file)}"]
