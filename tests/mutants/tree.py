"""A copy of the product with a bug in it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tests.support.process import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mutants.planted import Mutant


def plant(mutant: Mutant | None, directory: Path) -> Path:
    """Copy the packages into `directory` and change them; None = the same without a bug.

    Raises ValueError when the text to be replaced is not there exactly once.
    """
    for package in ("actors", "deltaforge"):
        shutil.copytree(REPOSITORY / package, directory / package, ignore=shutil.ignore_patterns("__pycache__"))
    for edit in mutant.edits if mutant is not None else ():
        file = directory / edit.path
        text = file.read_text()
        if text.count(edit.old) != 1:
            raise ValueError(f"{mutant and mutant.name}: {edit.path} has {text.count(edit.old)} times: {edit.old}")
        file.write_text(text.replace(edit.old, edit.new))
    return directory
