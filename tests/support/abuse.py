"""Clients that misuse an HTTP server on loopback, in a process of their own so that they cost the test nothing else.

    with Abuse(port, "flood", "slow headers", token=TOKEN) as abuse:
        ...
    print(abuse.done)

Each kind does one bad thing, in several tasks, again and again. None of them is ever told to slow down.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Self

import trio

from deltaforge.embedded.ports import HOST
from tests.support.process import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CONNECTED = "connections"
SLOW_S = 0.3
_HEAD = b"Host: localhost\r\n"
_TOKEN = "ABUSE_TOKEN"  # the name of a variable
_STOP_S = 60.0
_TRICKS = (
    "/../../etc/passwd", "/pipelines/../health", "/pipelines/%2e%2e/health", "/pipelines/..%2fhealth", "//pipelines",
    "/pipelines//", "/%2fpipelines", "/pipelines%00", "/PIPELINES", "/pipelines/;x", "/pipelines/" + "a" * 8000,
    "/static/../deltaforge", "/.git/config", "/pipelines/%ff", "/pipelines/${jndi:ldap://x}",
)  # fmt: skip
"""Each asks for something that is not there, or for something that is there by another name than its own."""


class Client:
    """What one kind works with: new connections, the right token, and a place to count."""

    def __init__(self, port: int, path: str) -> None:
        """`path`: a large page that exists."""
        self.port, self.path = port, path.encode()
        self.done: Counter[str] = Counter()
        self.connected = trio.Event()
        self.token = b"Authorization: Bearer " + os.environ.get(_TOKEN, "").encode() + b"\r\n"

    async def connect(self) -> trio.SocketStream:
        """A new connection. Raises OSError when there is none."""
        stream = await trio.open_tcp_stream(HOST, self.port)
        self.done[CONNECTED] += 1
        self.connected.set()
        return stream

    async def status(self, stream: trio.SocketStream) -> str:
        """Read the next answer and count it by its status; '' when the connection ended instead."""
        data = b""
        while not _whole(data) and (chunk := await stream.receive_some(65536)):
            data += chunk
        found = data[9:12].decode("latin-1") if data.startswith(b"HTTP/1.1 ") else "no HTTP" if data else ""
        self.done[found or "closed"] += 1
        return found

    async def ended(self, stream: trio.SocketStream, *, within_s: float = 90.0) -> None:
        """Read until the server has closed."""
        with trio.move_on_after(within_s):
            while await stream.receive_some(65536):
                pass


def _whole(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"^content-length: *([0-9]+)\r?$", head, re.IGNORECASE | re.MULTILINE)
    return bool(end) and length is not None and len(body) >= int(length[1])


async def flood(client: Client) -> None:
    """Open and close."""
    await trio.aclose_forcefully(await client.connect())


async def ask_and_leave(client: Client) -> None:
    """Ask, and do not stay for the answer."""
    async with await client.connect() as stream:
        await stream.send_all(b"GET /health HTTP/1.1\r\n" + _HEAD + b"\r\n")


async def idle(client: Client) -> None:
    """Open and say nothing."""
    async with await client.connect() as stream:
        await client.ended(stream)


async def half_open(client: Client) -> None:
    """Half a request, then silence."""
    async with await client.connect() as stream:
        await stream.send_all(b"GET /health HTTP/1.1\r\nHost: loc")
        await client.ended(stream)


async def slow_headers(client: Client) -> None:
    """One header line after the other, without an end."""
    async with await client.connect() as stream:
        await stream.send_all(b"GET /health HTTP/1.1\r\n" + _HEAD)
        while True:
            await trio.sleep(SLOW_S)
            await stream.send_all(b"X-Slow: yes\r\n")


async def slow_body(client: Client) -> None:
    """A body that comes byte by byte."""
    async with await client.connect() as stream:
        await stream.send_all(b"POST /health HTTP/1.1\r\n" + _HEAD + b"Content-Length: 1000000\r\n\r\n")
        while True:
            await trio.sleep(SLOW_S)
            await stream.send_all(b"x")


async def slow_reader(client: Client) -> None:
    """Ask for a large page again and again, and read a byte now and then."""
    async with await client.connect() as stream:
        while True:
            await stream.send_all(b"GET /metrics HTTP/1.1\r\n" + _HEAD + client.token + b"\r\n")
            await stream.receive_some(1)
            await trio.sleep(SLOW_S / 10)


async def huge_header(client: Client) -> None:
    """A header line without an end."""
    async with await client.connect() as stream:
        await stream.send_all(b"GET /health HTTP/1.1\r\n" + _HEAD + b"X-Huge: " + b"a" * 65536)
        await client.status(stream)
        while True:
            await stream.send_all(b"a" * 65536)


async def huge_body(client: Client) -> None:
    """A gigabyte in one request."""
    async with await client.connect() as stream:
        await stream.send_all(b"POST /pipelines HTTP/1.1\r\n" + _HEAD + b"Content-Length: 1000000000\r\n\r\n")
        await stream.send_all(b"b" * 65536)
        await client.status(stream)
        for _ in range(16_000):
            await stream.send_all(b"b" * 65536)


async def hammer(client: Client) -> None:
    """Good requests for large pages, as fast as they are answered."""
    async with await client.connect() as stream:
        while True:
            for path in (client.path, b"/metrics", b"/pipelines", b"/health"):
                await stream.send_all(b"GET " + path + b" HTTP/1.1\r\n" + _HEAD + client.token + b"\r\n")
                if not await client.status(stream):
                    return


async def pipelined(client: Client) -> None:
    """Hundreds of requests in one write."""
    async with await client.connect() as stream:
        await stream.send_all((b"GET /metrics HTTP/1.1\r\n" + _HEAD + client.token + b"\r\n") * 1000)
        await client.ended(stream)


async def wrong_token(client: Client) -> None:
    """Guess the token: close ones, long ones, none."""
    right = client.token[:-2]
    for guess in (b"", right[:-1] + b"\r\n", right + b"x\r\n", b"Authorization: Bearer " + b"a" * 8000 + b"\r\n"):
        async with await client.connect() as stream:
            await stream.send_all(b"GET " + client.path + b" HTTP/1.1\r\n" + _HEAD + guess + b"\r\n")
            await client.status(stream)


async def tricks(client: Client) -> None:
    """Paths that mean something to a file system, a proxy or a template, with the right token."""
    for path in _TRICKS:
        async with await client.connect() as stream:
            await stream.send_all(b"GET " + path.encode() + b" HTTP/1.1\r\n" + _HEAD + client.token + b"\r\n")
            await client.status(stream)


async def writes(client: Client) -> None:
    """Methods that would change something."""
    for method in (b"DELETE", b"PUT", b"POST", b"PATCH", b"TRACE", b"CONNECT"):
        async with await client.connect() as stream:
            await stream.send_all(method + b" " + client.path + b" HTTP/1.1\r\n" + _HEAD + client.token + b"\r\n")
            await client.status(stream)


async def garbage(client: Client) -> None:
    """Bytes that are no HTTP."""
    async with await client.connect() as stream:
        await stream.send_all(b"\x16\x03\x01" + os.urandom(4096))
        await client.status(stream)
        await client.ended(stream)


async def http2(client: Client) -> None:
    """HTTP/2 by prior knowledge, then pings without an end."""
    async with await client.connect() as stream:
        await stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        while True:
            await stream.send_all((b"\0\0\x08\6\0\0\0\0\0" + bytes(8)) * 100)
            with trio.move_on_after(0.01):
                await stream.receive_some(65536)


KINDS: dict[str, tuple[Callable[[Client], Awaitable[None]], int]] = {
    "flood": (flood, 8),
    "ask and leave": (ask_and_leave, 8),
    "idle": (idle, 1500),
    "half open": (half_open, 200),
    "slow headers": (slow_headers, 100),
    "slow body": (slow_body, 50),
    "slow reader": (slow_reader, 50),
    "huge header": (huge_header, 8),
    "huge body": (huge_body, 8),
    "hammer": (hammer, 32),
    "pipelined": (pipelined, 16),
    "wrong token": (wrong_token, 8),
    "tricks": (tricks, 8),
    "writes": (writes, 8),
    "garbage": (garbage, 8),
    "http2": (http2, 8),
}
"""Each with the number of tasks that do it."""
REFUSED = ("huge header", "huge body", "wrong token", "tricks", "writes", "garbage")
"""Those that count the status of each answer, and should see no other than 4xx."""


class Abuse:
    """The process that misbehaves, inside the `with` block, which is entered once every kind has begun."""

    def __init__(self, port: int, *kinds: str, path: str, token: str) -> None:
        """`kinds` as in KINDS, all of them at once; `path`: a large page; `token`: the right one."""
        assert set(kinds) <= KINDS.keys()
        self._command = [sys.executable, "-m", "tests.support.abuse", str(port), path, *kinds]
        self._environment = {**os.environ, _TOKEN: token}
        self._process: subprocess.Popen[str] | None = None
        self.done: dict[str, dict[str, int]] = {}
        """After the end: what each kind did and was answered."""

    def __enter__(self) -> Self:
        # The least of the processor for the clients: it is the server's share that the test is about.
        self._process = subprocess.Popen(
            ["nice", "-n", "19", *self._command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env=self._environment,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "begun\n"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        try:
            said, _unused = self._process.communicate("", timeout=_STOP_S)
            self.done = json.loads(said)
        finally:
            self._process.kill()
            self._process.wait()


async def _again(kind: Callable[[Client], Awaitable[None]], client: Client) -> None:
    while True:
        try:
            await kind(client)
        except (OSError, trio.BrokenResourceError):
            client.done["cut off"] += 1
        await trio.lowlevel.checkpoint()


async def _misbehave(port: int, path: str, kinds: list[str]) -> None:
    clients = {name: Client(port, path) for name in kinds}
    async with trio.open_nursery() as nursery:
        for name in kinds:
            kind, tasks = KINDS[name]
            for _ in range(tasks):
                nursery.start_soon(_again, kind, clients[name])
        for client in clients.values():
            await client.connected.wait()
        print("begun", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel(reason="told to end")
    print(json.dumps({name: client.done for name, client in clients.items()}))


if __name__ == "__main__":
    _, _most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_most, _most))
    trio.run(_misbehave, int(sys.argv[1]), sys.argv[2], sys.argv[3:])
