"""A server and a client for tests of the proxy: plain sockets that block, in the test's own thread."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Self

from deltaforge.embedded.ports import HOST

if TYPE_CHECKING:
    from tests.proxy.proxy import Proxy

WAIT_S = 30.0
SILENT_S = 0.2
"""How long nothing has to come. What comes later is not seen: a test may miss a fault so, but never invent one."""


class Ends:
    """A listening server, and what connects to it through a proxy."""

    def __init__(self) -> None:
        self.listener = socket.create_server((HOST, 0))
        self.listener.settimeout(WAIT_S)
        self.port: int = self.listener.getsockname()[1]
        self._open: list[socket.socket] = [self.listener]

    def connect(self, proxy: Proxy) -> socket.socket:
        """The client's end of a new connection."""
        client = socket.create_connection((HOST, proxy.port), WAIT_S)
        self._open.append(client)
        return client

    def accept(self) -> socket.socket:
        """The server's end of the next connection."""
        server, _ = self.listener.accept()
        server.settimeout(WAIT_S)
        self._open.append(server)
        return server

    def nobody_connects(self) -> bool:
        """Whether no connection comes for a moment."""
        self.listener.settimeout(SILENT_S)
        try:
            self.listener.accept()[0].close()
        except TimeoutError:
            return True
        finally:
            self.listener.settimeout(WAIT_S)
        return False

    def pair(self, proxy: Proxy) -> tuple[socket.socket, socket.socket]:
        """Both ends of a new connection."""
        client = self.connect(proxy)
        return client, self.accept()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._open:
            each.close()


def receive(end: socket.socket, size: int) -> bytes:
    """Exactly so many bytes; fewer where the stream ends."""
    parts = bytearray()
    while len(parts) < size and (part := end.recv(size - len(parts))):
        parts += part
    return bytes(parts)


def is_silent(end: socket.socket) -> bool:
    """Whether nothing comes for a moment, not even an end."""
    before = end.gettimeout()
    end.settimeout(SILENT_S)
    try:
        end.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return True
    finally:
        end.settimeout(before)
    return False


def talk(client: socket.socket, server: socket.socket, text: bytes = b"ping") -> None:
    """Something each way. Raises AssertionError when it does not come as it went."""
    client.sendall(text)
    assert receive(server, len(text)) == text
    server.sendall(text[::-1])
    assert receive(client, len(text)) == text[::-1]
