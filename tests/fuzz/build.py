"""The extension modules, built aside with AddressSanitizer and UndefinedBehaviorSanitizer, and loaded from there.

The C text comes from Cython where it is installed, else from what `pip install -e .` left beside the sources, if it is
not older than they are.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
MODULES = {
    "deltaforge._walk": "deltaforge/_walk.pyx",
    "deltaforge.envelopes._compiled": "deltaforge/envelopes/_compiled.pyx",
}
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")


class NotBuilt(Exception):
    """The extensions cannot be built here; the text says what is missing."""


def build(folder: Path, *, sanitize: bool) -> None:
    """Build both extensions into `folder`. Raises NotBuilt."""
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(lambda name: _build(name, folder, sanitize), MODULES):
            pass


def preload() -> dict[str, str]:
    """Environment of a Python that runs what was built with the sanitizers."""
    libraries = [_run([_compiler(), f"-print-file-name={name}"]).strip() for name in ("libasan.so", "libubsan.so")]
    return {
        "LD_PRELOAD": " ".join(libraries),
        # Python keeps what it needs until its end; abort so that faulthandler says where.
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1:quarantine_size_mb=16"
        ":allocator_release_to_os_interval_ms=500",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:abort_on_error=1",
        # Each object an allocation of its own, or nothing around it is watched.
        "PYTHONMALLOC": "malloc",
    }


def load(folder: Path) -> None:
    """Make `import` find the extensions in `folder`, before anything of deltaforge has imported them."""
    for name in MODULES:
        assert name not in sys.modules, name
        spec = importlib.util.spec_from_file_location(name, _library(folder, name))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)


def _library(folder: Path, name: str) -> Path:
    return folder / f"{name.rpartition('.')[2]}{sysconfig.get_config_var('EXT_SUFFIX')}"


def _compiler() -> str:
    return os.environ.get("CC", "gcc")


def _build(name: str, folder: Path, sanitize: bool) -> None:
    text = _c_text(name, ROOT / MODULES[name], folder)
    flags = ["-O1", "-g", *SANITIZE] if sanitize else ["-O2"]
    include = sysconfig.get_paths()["include"]
    _run([_compiler(), "-shared", "-fPIC", "-w", *flags, f"-I{include}", str(text), "-o", str(_library(folder, name))])


def _c_text(name: str, source: Path, folder: Path) -> Path:
    if importlib.util.find_spec("Cython") is not None:
        text = folder / f"{source.stem}.c"
        _run([sys.executable, "-m", "cython", "-3", "--module-name", name, "-o", str(text), str(source)])
        return text
    text = source.with_suffix(".c")
    newest = max(path.stat().st_mtime for path in [source, *source.parent.glob("*.pxi")])
    if not text.exists() or text.stat().st_mtime < newest:
        raise NotBuilt(f"{text} is missing or old, and there is no Cython: pip install cython, or pip install -e .")
    return text


def _run(command: list[str]) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        raise NotBuilt(f"{command[0]} is not installed: apt-get install build-essential python3-dev") from None
    except subprocess.CalledProcessError as error:
        raise NotBuilt(f"{command[0]} failed: {error.stderr}") from None
