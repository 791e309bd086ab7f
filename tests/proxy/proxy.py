"""The proxy as tests use it: a listener and a Trio loop in a thread, commanded from the test's thread.

Rule 1: a command has taken effect when the call returns. It runs in the proxy's loop, between two steps of any lane.
Rule 2: faults stay until they are lifted, and hold for old and new connections; cutting hits what exists now.
Rule 3: the port is kept while connections to it are refused.
"""

from __future__ import annotations

import errno
import socket
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self, TypeVar

import trio

from deltaforge.embedded.ports import HOST, free_ports
from tests.proxy.faults import BOTH, TO_CLIENT, TO_SERVER, Direction, Fault, Flip, Hole
from tests.proxy.lane import Board, Connection, PlainCutter, Traffic
from tests.proxy.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tests.proxy.lane import Cutter

    Where = Callable[[Connection], bool] | None

T = TypeVar("T")
WAIT_S = 30.0
_BACKLOG = 128


@dataclass(frozen=True)
class Statistics:
    """Numbers since the proxy began."""

    accepted: int
    """Connections."""
    open: int
    """Connections that have not ended."""
    to_server: Traffic
    to_client: Traffic


class Proxy:
    """Forwards TCP connections to one address of this machine, faithfully until told otherwise."""

    def __init__(self, host: str, port: int, *, listen_host: str = HOST, listen_port: int = 0) -> None:
        """Bind at once, so that the port is ours; nobody is served before `start`.

        Args:
          host, port: the server, as for `target`; it need not be there yet.
          listen_host, listen_port: where clients connect; port 0 = any free one.

        Raises:
          OSError: the port is taken.
        """
        self._address = (host, port)
        # A port that the kernel chose would be given away as soon as connections are refused.
        self._socket = _bound(listen_host, listen_port or free_ports(1)[0])
        self.port: int = self._socket.getsockname()[1]
        self._links: set[Link] = set()
        self._accepted = 0
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._error: Exception | None = None

    # ---- life

    def start(self) -> None:
        """Listen. Raises what keeps it from doing so."""
        self._thread = threading.Thread(target=self._work, name=f"proxy-{self.port}")
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Cut everything and give the port back. Raises the error that the proxy died of, if any."""
        if self._thread is not None:
            if self.running:
                self._token.run_sync_soon(self._scope.cancel)
            self._thread.join()
            self._thread = None
            if self._error is not None:
                raise self._error
        self._socket.close()

    def target(self, host: str, port: int) -> None:
        """Where connections go that are accepted from now on, as after a failover."""
        self._address = (host, port)

    @property
    def running(self) -> bool:
        """Whether it takes commands."""
        return self._thread is not None and self._thread.is_alive()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- faults: each stays until it is lifted

    def delay(self, ms: float, directions: Collection[Direction] = BOTH, where: Where = None) -> Fault:
        """Deliver everything so many milliseconds later, in each direction named."""
        return self._add(Fault(directions, where, delay_s=ms / 1000))

    def throttle(self, bytes_per_s: float, directions: Collection[Direction] = BOTH, where: Where = None) -> Fault:
        """Let so many bytes a second through, each way, all connections together."""
        return self._add(Fault(directions, where, bytes_per_s=bytes_per_s))

    def chop(self, nbytes: int, directions: Collection[Direction] = BOTH, where: Where = None) -> Fault:
        """Send so many bytes at a time."""
        return self._add(Fault(directions, where, piece=nbytes))

    def black_hole(self, directions: Collection[Direction] = BOTH, where: Where = None, *, keep: bool = True) -> Fault:
        """Forward nothing, and say nothing: connections stay, new ones are accepted.

        Args:
          keep: what comes meanwhile arrives when the hole is lifted, as after a partition; otherwise it is lost, and
            a connection that lost bytes stays silent for ever.
        """
        return self._add(Fault(directions, where, hole=Hole.HOLD if keep else Hole.DROP))

    def drop_after(self, nbytes: int, directions: Collection[Direction] = (TO_CLIENT,), where: Where = None) -> Fault:
        """Let the first `nbytes` of each connection's stream pass and lose the rest; the connection stays."""
        return self._add(Fault(directions, where, limit=nbytes))

    def flip(self, offset: int, directions: Collection[Direction] = (TO_CLIENT,), where: Where = None) -> Fault:
        """Damage one bit of the byte at this offset of each connection's stream."""
        return self._add(Fault(directions, where, flip=Flip(offset=offset)))

    def flip_some(
        self, every: int, seed: int, directions: Collection[Direction] = (TO_CLIENT,), where: Where = None
    ) -> Fault:
        """Damage one bit in each `every` bytes, at places that follow from `seed`."""
        return self._add(Fault(directions, where, flip=Flip(every=every, seed=seed)))

    def hang(self) -> None:
        """Accept connections from now on and do nothing with them; lifted, they are served."""
        self._set(hang=True)

    def refuse(self) -> None:
        """Refuse connections from now on, as a port does on which nobody listens."""
        self._set(refuse=True)

    def lift(self, fault: Fault) -> None:
        """End one fault, unless it has ended."""

        def act() -> None:
            if fault in self._board.faults:
                self._board.faults.remove(fault)

        self.command(act)

    def heal(self) -> None:
        """End all faults, `hang` and `refuse`. What was lost stays lost."""
        self.command(self._board.faults.clear)
        self._set(hang=False, refuse=False)

    # ---- connections that exist

    def cut(self, where: Where = None) -> None:
        """Close both sides."""
        self.command(lambda: self._each(Link.cut, where))

    def reset(self, where: Where = None) -> None:
        """Close both sides with RST."""
        self.command(lambda: self._each(Link.reset, where))

    def cut_client(self, where: Where = None) -> None:
        """Close the client's side; what it had sent still reaches the server, now or when it is let go."""
        self.command(lambda: self._each(Link.cut_client, where))

    def _each(self, act: Callable[[Link], None], where: Where) -> None:
        for link in list(self._links):
            if where is None or where(link.connection):
                act(link)

    # ---- looking

    def statistics(self) -> Statistics:
        """The numbers now."""
        return self.command(self._count)

    def wait_for(self, reached: Callable[[Statistics], bool], seconds: float = WAIT_S) -> Statistics:
        """Block until the numbers are so. Raises TimeoutError with the numbers when that takes too long."""
        return trio.from_thread.run(self._reach, reached, seconds, trio_token=self._token)

    async def _reach(self, reached: Callable[[Statistics], bool], seconds: float) -> Statistics:
        with trio.move_on_after(seconds):
            while not reached(self._count()):
                await self._board.news.wait()
        now = self._count()
        if not reached(now):
            raise TimeoutError(f"after {seconds} s: {now}")
        return now

    def _count(self) -> Statistics:
        traffic = self._board.traffic
        sides = (replace(traffic[each]) for each in (TO_SERVER, TO_CLIENT))
        return Statistics(self._accepted, len(self._links), *sides)

    # ---- the loop

    def command(self, act: Callable[[], T]) -> T:
        """Do something in the proxy's loop, and let everybody there look again."""

        def do() -> T:
            try:
                return act()
            finally:
                self._board.bell.ring()

        return trio.from_thread.run_sync(do, trio_token=self._token)

    def _add(self, fault: Fault) -> Fault:
        self.command(lambda: self._board.faults.append(fault))
        return fault

    def _set(self, *, hang: bool | None = None, refuse: bool | None = None) -> None:
        def act() -> None:
            if hang is not None:
                self._board.hang = hang
            if refuse is not None and refuse != self._board.refuse:
                self._board.refuse = refuse
                if refuse:
                    self._socket.shutdown(socket.SHUT_RDWR)
                else:
                    self._socket.listen(_BACKLOG)

        self.command(act)

    def _work(self) -> None:
        try:
            trio.run(self._main)
        except Exception as error:
            self._error = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        # A bell belongs to the loop that it rings in.
        self._board = Board()
        self._scope = trio.CancelScope()
        self._token = trio.lowlevel.current_trio_token()
        self._socket.listen(_BACKLOG)
        listener = trio.socket.from_stdlib_socket(self._socket)
        with self._scope:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._ready.set()
                await self._accept(listener)

    async def _accept(self, listener: trio.socket.SocketType) -> None:
        while True:
            while self._board.refuse:
                await self._board.bell.wait()
            try:
                client, _ = await listener.accept()
            except OSError as error:
                # It was told to refuse while it waited, or the client has gone away again.
                if error.errno not in (errno.EINVAL, errno.ECONNABORTED):
                    raise
                await trio.lowlevel.checkpoint()
                continue
            self._accepted += 1
            link = Link(self._board, Connection(self._accepted), trio.SocketStream(client), self._address, self.cutter)
            self._links.add(link)
            self._nursery.start_soon(self._serve, link)
            self._board.news.ring()

    async def _serve(self, link: Link) -> None:
        try:
            await link.run()
        finally:
            self._links.discard(link)
            self._board.news.ring()

    def cutter(self, connection: Connection, direction: Direction) -> Cutter:
        """How the bytes of one direction are taken apart."""
        return PlainCutter()


def _bound(host: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made
