"""Files at fixed places of the system, seen by one process alone: a mount namespace with fresh directories."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def placed(files: Mapping[str, Path]) -> list[str]:
    """A command that executes its arguments in a place where each path holds the content of the given file.

    The directories of these paths hold nothing else there. The process keeps its id, so signals reach it.
    Skips the test where namespaces are not allowed; fails in CI.
    """
    _require_namespaces()
    folders = sorted({path.rpartition("/")[0] for path in files})
    lines = ["set -e"]
    # Read before anything is hidden: a source may lie in one of the directories.
    lines += [f"content{number}=$(cat {shlex.quote(str(source))})" for number, source in enumerate(files.values())]
    lines += [f"mkdir -p {folder} && mount -t tmpfs tmpfs {folder}" for folder in folders]
    lines += [f'printf "%s\\n" "$content{number}" > {shlex.quote(path)}' for number, path in enumerate(files)]
    return ["unshare", "--mount", "sh", "-c", "\n".join([*lines, 'exec "$@"']), "sh"]


def _require_namespaces() -> None:
    reason = "a mount namespace needs root and the `unshare` program (util-linux)"
    allowed = os.geteuid() == 0 and shutil.which("unshare") is not None
    if allowed:
        allowed = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0
    if not allowed:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
