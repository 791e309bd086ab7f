"""Kafka's own programs, their output read line by line while they run: it may be larger than memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from deltaforge.embedded.archive import options as fast_start
from deltaforge.embedded.jars import class_path, java

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPTIONS = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error")
_END_S = 30.0


@contextlib.contextmanager
def tool_lines(main_class: str, *arguments: str) -> Iterator[Iterator[bytes]]:
    """What a program writes to stdout, as lines without their ends. It is ended when the block is left before the last.

    Raises: RuntimeError with the end of its stderr when it fails after its last line.
    """
    ended = False

    def lines() -> Iterator[bytes]:
        nonlocal ended
        assert process.stdout is not None
        for line in process.stdout:
            yield line.rstrip(b"\r\n")
        ended = True

    with tempfile.TemporaryDirectory(prefix="deltaforge-tool-") as scratch:
        jars = class_path()
        options = [f"-Djava.io.tmpdir={scratch}", *fast_start(jars), *_OPTIONS]
        words = [*options, "-cp", os.pathsep.join(map(str, jars))]
        file, errors = Path(scratch, "arguments"), Path(scratch, "stderr")
        file.write_text("\n".join('"' + _escaped(word) + '"' for word in [*words, main_class, *arguments]))
        command = [str(java()), f"@{file}"]
        with errors.open("wb") as stderr:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr)
        try:
            yield lines()
        finally:
            if not ended:
                process.terminate()
            assert process.stdout is not None
            process.stdout.close()
            code = process.wait(_END_S)
        if ended and code:
            raise RuntimeError(f"{main_class} failed with {code}:\n{errors.read_text(errors='replace')[-2000:]}")


def _escaped(word: str) -> str:
    return word.replace("\\", "\\\\").replace('"', '\\"')
