"""Mounts that nobody else sees: files at fixed places of the system for one process, and small disks for the tests."""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.support.available import unable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_CLONE_NEWNS = 0x00020000


def placed(files: Mapping[str, Path]) -> list[str]:
    """A command that executes its arguments in a place where each path holds the content of the given file.

    The directories of these paths hold nothing else there. The process keeps its id, so signals reach it.
    Skips the test where namespaces are not allowed; fails in CI.
    """
    require_namespaces("mount")
    folders = sorted({path.rpartition("/")[0] for path in files})
    lines = ["set -e"]
    # Read before anything is hidden: a source may lie in one of the directories.
    lines += [f"content{number}=$(cat {shlex.quote(str(source))})" for number, source in enumerate(files.values())]
    lines += [f"mkdir -p {folder} && mount -t tmpfs tmpfs {folder}" for folder in folders]
    lines += [f'printf "%s\\n" "$content{number}" > {shlex.quote(path)}' for number, path in enumerate(files)]
    return ["unshare", "--mount", "sh", "-c", "\n".join([*lines, 'exec "$@"']), "sh"]


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[None]:
    """Have a tmpfs of so many MiB in an empty directory, for this thread and for what it starts from now on.

    The mount is in a namespace that ends with this process, so that none is left behind however that ends.
    Skips the test where namespaces are not allowed; fails in CI.
    """
    require_namespaces("mount")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        # Lazily: a file may still be open.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def require_namespaces(kind: str, *programs: str) -> None:
    """Skip the test where there can be no such namespace, `mount` or `net`, or programs are missing; fail in CI."""
    needed = ("unshare", *programs)
    allowed = os.geteuid() == 0 and all(map(shutil.which, needed))
    if allowed:
        allowed = subprocess.run(["unshare", f"--{kind}", "true"], capture_output=True, check=False).returncode == 0
    if not allowed:
        unable(f"a {kind} namespace needs root and the programs {', '.join(needed)} (util-linux)")
