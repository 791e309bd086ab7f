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

from deltaforge.errors import ConfigError

TOKEN_VARIABLE = "DELTAFORGE_API_TOKEN"  # noqa: S105 - the name of the variable, not a token


class Guard:
    """Answers the two questions the admin HTTP asks about a request."""

    __slots__ = ("_digest", "_loopback")

    def __init__(self, host: str, token: str | None) -> None:
        """Guard a server bound to the address `host`.

        Raises ConfigError when `host` is reachable from other machines and there is no token.
        """
        self._loopback = is_loopback(host)
        self._digest = _digest(token) if token else None
        if not self._loopback and self._digest is None:
            raise ConfigError(
                f"the admin HTTP may not listen on {host} without a token",
                hint=f"set {TOKEN_VARIABLE} to a long random text, or listen on 127.0.0.1",
            )

    def host_allowed(self, header: str) -> bool:
        """Whether a request with this Host header is meant for us."""
        if not self._loopback:
            return True
        name = header.strip().lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        return name == "localhost" or is_loopback(name)

    def sees_all(self, authorization: str) -> bool:
        """Whether a request with this Authorization header may see more than the state word."""
        if self._digest is None:
            return True
        scheme, _, given = authorization.partition(" ")
        return hmac.compare_digest(_digest(given.strip()), self._digest) and scheme.lower() == "bearer"


def is_loopback(host: str) -> bool:
    """Whether `host` is an address that only this machine reaches. Names are not looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
