"""Who may see what over HTTP. Pure.

Rule 1: on loopback without a token everybody on this machine sees everything; the Host header has to name this machine,
        so that a web page that points its own name at 127.0.0.1 (DNS rebinding) gets nothing.
Rule 2: anywhere else there is no admin HTTP without a token.
Rule 3: where there is a token, a caller without it learns the state word of /health, /ready and /metrics, nothing else.
Rule 4: only a digest of the token is kept, and digests are compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re

from deltaforge.errors import ConfigError

TOKEN_VARIABLE = "DELTAFORGE_API_TOKEN"  # noqa: S105 - the name of the variable, not a token
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([0-9a-z.-]+))(?::[0-9]{1,5})?\Z")


class Guard:
    """Answers what the admin HTTP asks about a request."""

    __slots__ = ("_digest", "_loopback")

    def __init__(self, host: str, token: str | None) -> None:
        """Guard a server bound to the address `host`.

        Raises ConfigError when `host` is reachable from other machines and there is no token, or one that no header
        can carry.
        """
        if token and (token != token.strip() or any(ord(c) < 32 or ord(c) == 127 for c in token)):
            raise ConfigError(
                f"{TOKEN_VARIABLE} begins or ends with a blank, or has a control character in it",
                hint="no HTTP header can carry it; was it read from a file with its line break?",
            )
        self._loopback = is_loopback(host)
        self._digest = _digest(token.encode(errors="surrogateescape")) if token else None
        if not self._loopback and self._digest is None:
            raise ConfigError(
                f"the admin HTTP may not listen on {host} without a token",
                hint=f"set {TOKEN_VARIABLE} to a long random text, or listen on 127.0.0.1",
            )

    @property
    def wants_token(self) -> bool:
        """Whether there is a token at all."""
        return self._digest is not None

    def host_allowed(self, header: str) -> bool:
        """Whether a request with this Host header is meant for us."""
        if not self._loopback:
            return True
        match = _HOST.match(header.strip().lower())
        name = (match[1] or match[2]) if match else ""
        return name == "localhost" or is_loopback(name)

    def sees_all(self, authorization: str) -> bool:
        """Whether a request with this Authorization header, one character for each byte, may see everything."""
        if self._digest is None:
            return True
        scheme, _, given = authorization.partition(" ")
        digest = _digest(given.strip(" \t").encode("latin-1", "replace"))
        return hmac.compare_digest(digest, self._digest) and scheme.lower() == "bearer"


def is_loopback(host: str) -> bool:
    """Whether `host` is an address that only this machine reaches. Names are not looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
