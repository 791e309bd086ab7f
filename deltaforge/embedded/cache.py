"""Where downloads are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """`$DELTAFORGE_CACHE`, else `deltaforge` in the user's cache directory. It need not exist yet."""
    if named := os.environ.get("DELTAFORGE_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deltaforge"
