"""Kafka's own programs, their output read line by line while they run: it may be larger than memory."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from deltaforge.embedded.jars import class_path
from deltaforge.embedded.kafka import java_command

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
        file, errors = Path(scratch, "arguments"), Path(scratch, "stderr")
        command = java_command(file, class_path(), _OPTIONS, [main_class, *arguments])
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
