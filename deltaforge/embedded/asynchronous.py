"""Put a server of this package under Trio.

The servers wait in a worker thread. A cancelled caller does not leave that thread behind: it tells the server to give
up starting, waits until the thread is back, and only then ends the server.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio

from deltaforge.embedded.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Server(Protocol):
    """What `PostgresServer` and `KafkaCluster` have in common."""

    def start(self) -> None:
        """Start and wait until it can be used."""

    def abort(self) -> None:
        """Make `start` give up."""

    def close(self) -> None:
        """End it and remove what is temporary."""


AnyServer = TypeVar("AnyServer", bound=Server)


@asynccontextmanager
async def running(server: AnyServer) -> AsyncIterator[AnyServer]:
    """Start a server, and close it at the end of the block.

    Raises:
      EmbeddedError: it does not start.
    Cancellation: the server is closed before Cancelled goes on; that takes a second at most.
    """
    try:
        await start(server)
        yield server
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(server.close)


async def start(server: Server) -> None:
    """Start a server in a worker thread.

    Raises:
      EmbeddedError: it does not start.
    Cancellation: the start is given up; what has been started runs until the server is closed.
    """
    outcome: list[EmbeddedError | None] = []

    async def give_up_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            if not outcome:
                server.abort()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(give_up_when_cancelled)
        try:
            await trio.to_thread.run_sync(server.start)
        except EmbeddedError as error:
            # Raised below, outside the nursery, which would wrap it in a group.
            outcome.append(error)
        else:
            outcome.append(None)
        nursery.cancel_scope.cancel()
    (failure,) = outcome
    if failure is not None:
        raise failure
