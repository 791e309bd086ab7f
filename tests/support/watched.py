"""A product under watch: everything that can be heard or seen of it from outside, kept to be searched for passwords."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.canaries import leaks

if TYPE_CHECKING:
    from tests.support.process import Deltaforge


class Watched:
    """A product of which everything it says is kept."""

    def __init__(self, product: Deltaforge, *, token: str = "") -> None:
        """`token`: of the admin HTTP, which is then asked with and without it."""
        self.product, self._token = product, token
        self.heard: list[str] = []

    def look(self, names: list[str]) -> None:
        """Ask every page once, and see how the process looks from outside."""
        paths = [
            "/health",
            "/ready",
            "/metrics",
            "/pipelines",
            "/openapi.json",
            *(f"/pipelines/{name}" for name in names),
        ]
        for token in dict.fromkeys((self._token, "")):
            self.heard += [self.product.ask(path, token=token)[1].decode() for path in paths]
        line = Path(f"/proc/{self.product.pid}/cmdline").read_bytes().decode()
        shown = subprocess.run(
            ["ps", "-ww", "-o", "args=", "-p", str(self.product.pid)], capture_output=True, text=True
        )
        self.heard += [line, line.replace("\0", " "), shown.stdout]

    def leaks(self) -> list[str]:
        """Every leak in all of it."""
        return leaks("\n".join([*self.heard, self.product.text()]))
