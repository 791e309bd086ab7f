"""One connection: the client's socket, the server's, and a lane each way."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING

import trio

from tests.proxy.faults import TO_CLIENT, TO_SERVER
from tests.proxy.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.proxy.faults import Direction
    from tests.proxy.lane import Board, Connection, Cutter

_NO_LINGER = struct.pack("ii", 1, 0)


class Link:
    """Lives until both directions have ended, or until it is cut."""

    def __init__(
        self,
        board: Board,
        connection: Connection,
        client: trio.SocketStream,
        address: tuple[str, int],
        cutter: Callable[[Connection, Direction], Cutter],
    ) -> None:
        self.connection = connection
        self._board, self._client, self._address = board, client, address
        self._server: trio.SocketStream | None = None
        # The requests' cutter first: a Kafka proxy makes the answers' from it.
        self._lanes = {each: Lane(board, connection, each, cutter(connection, each)) for each in (TO_SERVER, TO_CLIENT)}
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        """Serve the connection to its end. Cancellation: both sockets are closed, what was under way is lost."""
        try:
            with self._scope:
                while self._board.hang:
                    await self._board.bell.wait()
                try:
                    self._server = await trio.open_tcp_stream(*self._address)
                except OSError:
                    abort(self._client)
                    return
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._lanes[TO_SERVER].read, self._client)
                    nursery.start_soon(self._lanes[TO_CLIENT].read, self._server)
                    nursery.start_soon(self._pass_on, TO_SERVER, self._server)
                    nursery.start_soon(self._pass_on, TO_CLIENT, self._client)
        finally:
            for stream in self._streams():
                close(stream)

    async def _pass_on(self, direction: Direction, sink: trio.SocketStream) -> None:
        if await self._lanes[direction].write(sink):
            abort(sink)

    def cut(self) -> None:
        """End both sides in good order (FIN), whatever is under way."""
        self._scope.cancel(reason="the test cut the connection")

    def reset(self) -> None:
        """End both sides with RST."""
        for stream in self._streams():
            abort(stream)
        self._scope.cancel(reason="the test reset the connection")

    def cut_client(self) -> None:
        """End the client's side only: what it had sent, held or not, still reaches the server."""
        close(self._client)

    def _streams(self) -> list[trio.SocketStream]:
        return [self._client] if self._server is None else [self._client, self._server]


def close(stream: trio.SocketStream) -> None:
    """FIN. Where bytes are left unread the kernel sends RST behind it."""
    # It fails where the peer was faster, or where it is closed already.
    with contextlib.suppress(OSError):
        stream.socket.shutdown(socket.SHUT_RDWR)
    stream.socket.close()


def abort(stream: trio.SocketStream) -> None:
    """RST."""
    with contextlib.suppress(OSError):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    stream.socket.close()
