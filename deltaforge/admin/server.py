"""The actor that serves the admin HTTP: hypercorn's protocol over our own accept loop.

The accept loop is ours because hypercorn's lets an exception in one connection take the whole server down, has no limit
on connections, and writes without any time limit to a client that does not read.

Rule 1: the listening socket is bound before any pipeline starts and outlives restarts of this actor.
Rule 2: a connection costs bounded memory and bounded time, whatever the client does.
Rule 3: an error in a connection ends that connection only.
Rule 4: all connections together cost a bounded share of the event loop, which the pipelines need: connections and
        requests above a rate wait for their turn.
Rule 5: places are for those who ask. When all are taken, whoever has kept one longest without a request, or without
        reading the answer, makes room for who comes; and a connection ends with its answer.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, cast

import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, LifespanState
from hypercorn.utils import wrap_app

from deltaforge.admin.app import build_app
from deltaforge.admin.http1 import Connection
from deltaforge.admin.pace import Pace
from deltaforge.errors import ConfigError
from deltaforge.failpoints import failpoint_async
from deltaforge.logs import get_logger

if TYPE_CHECKING:
    from actors import ActorContext
    from deltaforge.admin.guard import Guard
    from deltaforge.status import Status

log = get_logger("deltaforge.admin")

MAX_CONNECTIONS = 64
PATIENCE_S = 0.25
"""So long every client may take to send its request, and to read its answer, however many others wait for its place."""
CONNECTION_LIFE_S = 60.0
"""No request takes long, and a client that comes back opens a new connection."""
SEND_WITHIN_S = 10.0
IDLE_S = 5
"""From the last answer (or the connection's begin) to the end of the next request's headers."""
LAST_ANSWERS_S = 2.0
HEADER_BYTES = 16 * 1024
CONNECTIONS_PER_S, CONNECTIONS_AT_ONCE = 100, 128
REQUESTS_PER_S, REQUESTS_AT_ONCE = 30, 60
"""A request takes some milliseconds of a slow processor, an empty connection half of one."""
_TOO_MANY = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def bind(host: str, port: int) -> socket.socket:
    """Open the listening socket. Port 0 takes any free one.

    Raises ConfigError when the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(MAX_CONNECTIONS)
    except OSError as error:
        sock.close()
        raise ConfigError(
            f"the admin HTTP cannot listen on {host} port {port}: {error.strerror}",
            hint="stop what listens there, or choose another address with --api-addr HOST:PORT",
        ) from error
    sock.setblocking(False)
    return sock


def url_of(sock: socket.socket) -> str:
    """Where a listening socket is reached."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class AdminServer:
    """Serve pictures of the process over HTTP.

    Owns: the connections. The listening socket belongs to the process.
    Receives: HTTP requests.  Sends: pictures.
    On stop: accepts no more, gives running answers two seconds.
    On restart: begins anew on the same socket; clients see a closed connection.
    """

    def __init__(self, *, status: Status, sock: socket.socket, guard: Guard) -> None:
        self._sock = sock
        app = build_app(status, guard, Pace(REQUESTS_PER_S, REQUESTS_AT_ONCE), self._crowded)
        self._app = wrap_app(app, 0, "asgi")
        self._arrivals = Pace(CONNECTIONS_PER_S, CONNECTIONS_AT_ONCE)
        self._config = _hypercorn_config()
        self._open: dict[Connection, trio.CancelScope] = {}

    async def run(self, ctx: ActorContext) -> None:
        """Serve until the stop. *Cancellation:* all connections are cut."""
        self._open.clear()
        context = WorkerContext(None)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._sock.dup()))
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                accepting.start_soon(self._accept, ctx, listener, connections, context)
                ctx.started()
                await ctx.stopping.wait()
                accepting.cancel_scope.cancel(reason="admin stops")
            await context.terminated.set()
            connections.cancel_scope.deadline = trio.current_time() + LAST_ANSWERS_S

    async def _accept(
        self, ctx: ActorContext, listener: trio.SocketListener, connections: trio.Nursery, context: WorkerContext
    ) -> None:
        async with listener:
            while True:
                await failpoint_async("admin.loop")
                ctx.beat()
                try:
                    with ctx.waiting("requests"):
                        await self._arrivals.turn()
                        stream = await listener.accept()
                except OSError as error:
                    if error.errno not in _TOO_MANY:
                        raise
                    log.warning("no file descriptor left for the admin HTTP", error=error.strerror)
                    await trio.sleep(0.5)
                else:
                    connections.start_soon(self._serve, stream, context)

    async def _serve(self, stream: trio.SocketStream, context: WorkerContext) -> None:
        if self._crowded() and not self._make_room():
            await trio.aclose_forcefully(stream)
            return
        life = trio.CancelScope(deadline=trio.current_time() + CONNECTION_LIFE_S)
        patient = cast("trio.SSLStream[trio.SocketStream]", _BoundedStream(stream, life))
        connection = Connection(self._app, self._config, context, ConnectionState(LifespanState({})), patient)
        self._open[connection] = life
        try:
            with life:
                await connection.run()
        except Exception as error:
            # What a client sends must not end the server. The error's text may quote it: only the class is kept.
            log.warning("admin connection failed", error=type(error).__name__)
        finally:
            self._open.pop(connection, None)
            await trio.aclose_forcefully(stream)

    def _crowded(self) -> bool:
        """Whether every place is taken."""
        return len(self._open) >= MAX_CONNECTIONS

    def _make_room(self) -> bool:
        """Cut off whoever has kept a place longest without using it. False when all use theirs, or came just now."""
        last = min(self._open, key=lambda connection: connection.waits_since)
        if trio.current_time() - last.waits_since < PATIENCE_S:
            return False
        self._open.pop(last).cancel(reason="others need the place")
        # A write is shielded from cancellation, not from this.
        last.stream.socket.close()
        return True


class _BoundedStream:
    """A socket stream whose writes give up: hypercorn shields its writes from cancellation without a limit.

    A write that fails ends the connection's `life`: hypercorn would wait for the end of an answer that is never sent.
    """

    def __init__(self, stream: trio.SocketStream, life: trio.CancelScope) -> None:
        self._stream, self._life = stream, life
        self.socket = stream.socket
        self.receive_some = stream.receive_some
        self.send_eof = stream.send_eof
        self.aclose = stream.aclose

    async def send_all(self, data: bytes) -> None:
        try:
            with trio.fail_after(SEND_WITHIN_S):
                await self._stream.send_all(data)
        except (trio.TooSlowError, trio.BrokenResourceError):
            self._life.cancel(reason="the client does not read")
            raise trio.BrokenResourceError("the client does not read") from None


def _hypercorn_config() -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = None
    config.include_server_header = False
    config.keep_alive_timeout = IDLE_S
    config.read_timeout = IDLE_S * 2
    config.h11_max_incomplete_size = HEADER_BYTES
    return config
