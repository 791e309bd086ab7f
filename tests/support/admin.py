"""A Status that a test sets, the admin server over it, and a client."""

from __future__ import annotations

import http.client
import json
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from actors import ChildSpec, Supervisor, SupervisorSpec
from deltaforge.admin.guard import Guard
from deltaforge.admin.server import AdminServer, bind
from deltaforge.status import ActorView, Health, PipelineView, Ready, judge_health, judge_ready

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

WAIT_S = 30

RUNNING = PipelineView(name="orders", tenant="acme", state="running", actors=ActorView(id="orders", kind="supervisor"))


class Fixed:
    """A Status whose pictures the test sets."""

    def __init__(self, *views: PipelineView) -> None:
        self.views = views

    def pipelines(self) -> tuple[PipelineView, ...]:
        return self.views

    def pipeline(self, name: str) -> PipelineView | None:
        if name == "broken":
            raise RuntimeError("a bug with hunter2-password in its text")
        return next((view for view in self.views if view.name == name), None)

    def health(self) -> Health:
        return judge_health(self.views)

    def ready(self) -> Ready:
        return judge_ready(self.views)


class Answer(NamedTuple):
    code: int
    headers: dict[str, str]
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)


def request(
    target: str | bytes = "/health",
    *headers: str | bytes,
    method: str = "GET",
    version: str = "1.1",
    host: str | bytes | None = "localhost",
) -> bytes:
    """The bytes of a request whose connection is closed after the answer. Nothing is checked or quoted."""
    first = b" ".join([method.encode(), _bytes(target), f"HTTP/{version}".encode()])
    named = [] if host is None else [b"Host: " + _bytes(host)]
    return b"\r\n".join([first, *named, b"Connection: close", *map(_bytes, headers), b"", b""])


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


class Exchange(NamedTuple):
    """What came back for some bytes, and whether the server ended the connection in the end."""

    data: bytes
    ended: bool

    @property
    def codes(self) -> list[int]:
        """The status of each answer in it, interim ones (1xx) included."""
        return [int(code) for code in re.findall(rb"^HTTP/1\.1 ([0-9]{3}) ", self.data, re.MULTILINE)]

    @property
    def body(self) -> bytes:
        """What follows the first answer's head."""
        return self.data.partition(b"\r\n\r\n")[2]


class Client:
    """Asks the server, one connection for each request."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    async def get(self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Answer:
        with trio.fail_after(WAIT_S):
            return await trio.to_thread.run_sync(self._ask, method, path, dict(headers or {}))

    async def answers(self) -> bool:
        """Whether /health says 200 just now."""
        try:
            return (await self.get("/health")).code == 200
        except (OSError, http.client.HTTPException):
            return False

    async def stream(self) -> trio.SocketStream:
        return await trio.open_tcp_stream(self.host, self.port)

    async def send(self, data: bytes) -> Exchange:
        """Send bytes on a connection of their own and read until the server ends it, for at most `WAIT_S`."""
        received = b""
        async with await self.stream() as stream:
            with trio.move_on_after(WAIT_S) as waited:
                try:
                    await stream.send_all(data)
                    while chunk := await stream.receive_some(65536):
                        received += chunk
                except trio.BrokenResourceError:
                    pass
        return Exchange(received, not waited.cancelled_caught)

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=WAIT_S)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode())
        finally:
            connection.close()


@asynccontextmanager
async def serving(status: Fixed, *, host: str = "127.0.0.1", token: str | None = None) -> AsyncIterator[Client]:
    """An admin server under a supervisor, as in the process."""
    with bind(host, 0) as sock:
        admin = AdminServer(status=status, sock=sock, guard=Guard(host, token))
        root = Supervisor("admin", SupervisorSpec(intensity=None), [ChildSpec("http", admin.run, stall_after_s=30.0)])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(root.run)
            yield Client("127.0.0.1", sock.getsockname()[1])
            # A server that does not stop is caught by the tests' own limit.
            root.stop()
