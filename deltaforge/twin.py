"""Which form of the hot functions runs: compiled, or the Python they have to agree with.

DELTAFORGE_CODEC=python keeps to Python, =compiled insists on the compiled form; otherwise it is used where it was
built.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

VARIABLE = "DELTAFORGE_CODEC"


def compiled_module(name: str) -> Any:  # noqa: ANN401 - an extension module
    """The extension module `name`, None when Python is wanted or it was not built.

    Raises ImportError when it is insisted on and missing.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted == "python":
        return None
    try:
        return importlib.import_module(name)
    except ImportError:
        if wanted == "compiled":
            raise
        return None
