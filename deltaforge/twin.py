"""Which form of the hot functions runs: compiled, or the Python they have to agree with.

DELTAFORGE_CODEC=python keeps to Python, =compiled insists on the compiled form; otherwise it is used where it was
built.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from deltaforge.errors import ConfigError

VARIABLE = "DELTAFORGE_CODEC"


def compiled_module(name: str) -> Any:  # noqa: ANN401 - an extension module
    """The extension module `name`, None when Python is wanted or it was not built.

    Raises ConfigError when it is insisted on and missing, and when the variable says neither.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", "python", "compiled"):
        raise ConfigError(f"{VARIABLE} is {wanted!r}", hint="set it to python or compiled, or leave it out")
    if wanted == "python":
        return None
    try:
        return importlib.import_module(name)
    except ImportError:
        if wanted != "compiled":
            return None
    raise ConfigError(
        f"{VARIABLE}=compiled, and {name} is not here",
        hint="install a C compiler and Python's headers and then deltaforge again, or leave the variable out",
    )
