"""Passwords made anew for every test session, and the search for them in whatever the product wrote.

Long and random, so that a hit is a leak and never a coincidence. Every password that a test hands to the product comes
from `canary`; the session ends with a search of all logs for all of them (see `fix_canaries`).
"""

from __future__ import annotations

import base64
import json
import secrets
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_made: dict[str, str] = {}
_KEPT = 12
"""A piece of so many characters is a leak too: a line may be cut or wrapped."""


def canary(what: str, *, extra: str = "") -> str:
    """The session's password for `what`; `extra` is put into its middle, for characters that have to be quoted."""
    if what not in _made:
        _made[what] = f"cnry{secrets.token_hex(8)}{extra}{secrets.token_hex(8)}"
    return _made[what]


def leaks(text: str) -> list[str]:
    """For which canaries `text` holds the password in any spelling, as `what (spelling)`. Never the password itself."""
    return [f"{what} ({form})" for what, password in _made.items() for form, s in _spellings(password) if s in text]


def leaking_files(folder: Path) -> list[str]:
    """What `leaks` finds in all files below a folder, each with the file's name."""
    found = []
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            found += [f"{file.name}: {leak}" for leak in leaks(file.read_text(errors="replace"))]
    return found


def _spellings(password: str) -> Iterable[tuple[str, str]]:
    raw = password.encode()
    yield "as it is", password
    yield "its first half", password[:_KEPT]
    yield "its second half", password[-_KEPT:]
    for name, encoded in (("percent-encoded", quote(raw, safe="")), ("as a form", quote_plus(raw))):
        yield name, encoded
        yield f"{name}, small letters", encoded.lower()
    yield "quoted by Python", repr(password)[1:-1]
    yield "quoted for JSON", json.dumps(password)[1:-1]
    yield "hexadecimal", raw.hex()
    yield "backwards", password[::-1]
    for skipped in range(3):
        # What stands before it decides which bits share a letter: the letters at the ends are left out.
        middle = base64.b64encode(b"\0" * skipped + raw).decode().rstrip("=")[4 if skipped else 0 : -2]
        yield f"Base64 after {skipped}", middle
        yield f"Base64 for URLs after {skipped}", middle.replace("+", "-").replace("/", "_")
