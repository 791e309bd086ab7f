"""A proxy before one PostgreSQL that knows the messages of its protocol, and changes what a test wants changed."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tests.proxy.faults import TO_CLIENT, Direction
from tests.proxy.lane import PlainCutter
from tests.proxy.proxy import Proxy
from tests.proxy.queues import Item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.proxy.lane import Connection, Cutter

_LENGTH = struct.Struct("!I")
"""Follows the letter that says the kind, and counts itself."""
_SSL_REQUEST = struct.pack("!II", 8, 80877103)


class PostgresProxy(Proxy):
    """Forwards to one server, which has to be spoken to without TLS."""

    def __init__(self, host: str, port: int) -> None:
        """As `Proxy`."""
        super().__init__(host, port)
        self._damage: Callable[[bytes], bytes | None] | None = None
        self.damaged = 0
        """Messages that were changed so far."""

    def damage(self, change: Callable[[bytes], bytes | None]) -> None:
        """Hand each message on its way to the client to `change`, kind and length included, until that gives another.

        What it gives takes the place of the message, once; None leaves it as it is.
        """

        def act() -> None:
            self._damage = change

        self.command(act)

    def cutter(self, connection: Connection, direction: Direction) -> Cutter:
        """The server's messages; the client's bytes as they come."""
        return _Messages(self, connection) if direction is TO_CLIENT else PlainCutter()

    def changed(self, message: bytes) -> bytes:
        """What becomes of a message."""
        found = self._damage(message) if self._damage is not None else None
        if found is None:
            return message
        self._damage = None
        self.damaged += 1
        return found


class _Messages:
    """The server's bytes, message by message."""

    def __init__(self, proxy: PostgresProxy, connection: Connection) -> None:
        self._proxy, self._connection = proxy, connection
        self._buffer = bytearray()
        self._begun = False

    def feed(self, data: bytes, now: float) -> Iterable[Item]:
        """What is complete."""
        self._buffer += data
        out = bytearray()
        if not self._begun and self._connection.opening.startswith(_SSL_REQUEST):
            # Whether there is TLS is answered with a single letter.
            out += self._buffer[:1]
            del self._buffer[:1]
        self._begun = True
        while len(self._buffer) > _LENGTH.size:
            size = 1 + _LENGTH.unpack_from(self._buffer, 1)[0]
            if len(self._buffer) < size:
                break
            out += self._proxy.changed(bytes(self._buffer[:size]))
            del self._buffer[:size]
        return (Item(bytes(out), now),) if out else ()

    def rest(self, now: float) -> Iterable[Item]:
        """A piece of a message goes on as it is."""
        left = bytes(self._buffer)
        self._buffer.clear()
        return (Item(left, now),) if left else ()
