"""HTTP/1.1 and nothing else: hypercorn's protocol without the ways out of it.

HTTP/2 and WebSocket serve nobody here, and each brings frames, windows and tables that a client can play with.

Rule 1: an `Upgrade` is not heard, a version other than 1.0 and 1.1 is refused.
Rule 2: the application sees targets that begin with `/`. Of an absolute address the path is kept, and its host counts
        instead of the Host header (RFC 9112, 3.2.2).
Rule 3: a connection ends when its client leaves, or stops reading.
"""

from __future__ import annotations

import re
from math import inf
from typing import TYPE_CHECKING, cast

import h11
import trio
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

if TYPE_CHECKING:
    from hypercorn.protocol import ProtocolWrapper

_VERSIONS = (b"1.0", b"1.1")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#@]*)(/[^#]*)?\Z")
_UNHEARD = (b"upgrade", b"http2-settings")
_RECYCLE_S = 1.0


class Http1(H11Protocol):
    """One connection's protocol, on top of h11's state machine."""

    async def _check_protocol(self, event: h11.Request) -> None:
        """Where hypercorn changes to HTTP/2."""

    async def _create_stream(self, request: h11.Request) -> None:
        code, request = in_origin_form(request)
        if code:
            await self._send_error_response(code)
            await self.send(Closed())
            return
        await super()._create_stream(request)

    async def _maybe_recycle(self) -> None:
        # Quart cancels the task of an answer as soon as it is sent, which is in here: without a shield connections that
        # are to be closed stay open, and those that may stay have no idle time.
        with trio.move_on_after(_RECYCLE_S, shield=True):
            await super()._maybe_recycle()


def in_origin_form(request: h11.Request) -> tuple[int, h11.Request]:
    """The request as the application takes it, and 0; or the status that refuses it."""
    if request.http_version not in _VERSIONS:
        return 505, request
    target, headers = request.target, [pair for pair in request.headers if pair[0] not in _UNHEARD]
    if not target.startswith(b"/"):
        match = _ABSOLUTE.match(target)
        if match is None:
            return 400, request
        target = match[2] or b"/"
        headers = [(b"host", match[1]), *(pair for pair in headers if pair[0] != b"host")]
    return 0, h11.Request(method=request.method, target=target, headers=headers, http_version=request.http_version)


class Connection(TCPServer):
    """hypercorn's connection with this protocol."""

    waits_since = inf
    """Since when it has had no request in hand, or has been writing to a client that does not read; inf = at work."""

    async def run(self) -> None:
        """Serve until either side ends. The stream is closed by the caller when this is cancelled or raises."""
        try:
            socket = self.stream.socket
            client = parse_socket_addr(socket.family, socket.getpeername())
            server = parse_socket_addr(socket.family, socket.getsockname())
            self.waits_since = trio.current_time()
            async with TaskGroup() as tasks:
                self._task_group = tasks
                spoken = Http1(
                    self.app, self.config, self.context, tasks, ConnectionState(self.state), False, client, server,
                    self.protocol_send,
                )  # fmt: skip
                self.protocol = cast("ProtocolWrapper", spoken)
                await self.protocol.initiate()
                await self.idle_task.restart(tasks, self._idle_timeout)
                await self._read_data()
        except OSError:
            pass
        await self._close()

    async def protocol_send(self, event: Event) -> None:
        """Take over what the protocol has for the client, and what it says of itself."""
        if isinstance(event, Updated):
            self.waits_since = trio.current_time() if event.idle else inf
        elif isinstance(event, RawData):
            before, self.waits_since = self.waits_since, trio.current_time()
            await super().protocol_send(event)
            self.waits_since = before
            return
        await super().protocol_send(event)

    async def _read_data(self) -> None:
        await super()._read_data()
        # Otherwise the connection stays until its idle time is over.
        await self.idle_task.stop()
