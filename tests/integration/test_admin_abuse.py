"""The admin HTTP and clients that misbehave: bounded memory, bounded time, and nobody else notices."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

import pytest
import trio
from hpack import Encoder

from deltaforge.admin import http1, server
from deltaforge.status import PipelineView
from tests.support.admin import RUNNING, WAIT_S, Fixed, serving

if TYPE_CHECKING:
    from tests.support.admin import Client


@pytest.fixture(autouse=True)
def _short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's own limits, shorter: nothing here depends on how long they are. No place is taken from anybody."""
    monkeypatch.setattr(server, "IDLE_S", 1)
    monkeypatch.setattr(server, "PATIENCE_S", 1000)


@pytest.mark.fault("X3")
async def test_clients_that_send_slowly_do_not_keep_others_out() -> None:
    """Guards against a handful of half-open requests that occupy the server for ever."""
    async with serving(Fixed(RUNNING)) as client:
        # GIVEN as many connections as the server takes, each with half a request
        streams = [await client.stream() for _ in range(server.MAX_CONNECTIONS)]
        for stream in streams:
            await stream.send_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")

        # WHEN they never finish
        # THEN each is closed by the server, and the next one is served
        with trio.fail_after(WAIT_S):
            for stream in streams:
                with suppress(trio.BrokenResourceError):
                    assert await stream.receive_some(100) == b""
                await stream.aclose()
        assert (await client.get("/health")).code == 200


@pytest.mark.fault("X3")
async def test_a_client_that_drips_header_bytes_is_cut_off() -> None:
    """Guards against a read timeout that every further byte renews."""
    async with serving(Fixed(RUNNING)) as client, await client.stream() as stream:
        with trio.fail_after(WAIT_S):
            await _drip(stream)


async def _drip(stream: trio.SocketStream) -> None:
    """Send header lines until the server closes."""
    with suppress(trio.BrokenResourceError):
        await stream.send_all(b"GET /health HTTP/1.1\r\n")
        answered = False
        while not answered:
            await stream.send_all(b"X: y\r\n")
            with trio.move_on_after(0.1):
                await stream.receive_some(1)
                answered = True


@pytest.mark.fault("X3")
@pytest.mark.parametrize("patience_s", [0, 1000], ids=["who waits longest", "who comes"])
async def test_too_many_connections_are_closed_at_once(monkeypatch: pytest.MonkeyPatch, patience_s: float) -> None:
    """Guards against file descriptors that the pipelines need, and against a newcomer who pays for idlers."""
    monkeypatch.setattr(server, "IDLE_S", 1000)
    monkeypatch.setattr(server, "PATIENCE_S", patience_s)
    async with serving(Fixed(RUNNING)) as client:
        streams = [await client.stream() for _ in range(server.MAX_CONNECTIONS + 5)]
        closed = 0
        with trio.fail_after(WAIT_S):
            for stream in streams[-5:] if patience_s else streams[:5]:
                try:
                    closed += await stream.receive_some(1) == b""
                except trio.BrokenResourceError:
                    closed += 1
            for stream in streams:
                await stream.aclose()
            assert closed == 5
            while not await client.answers():
                pass


HEAD = b"GET /pipelines/orders HTTP/1.1\r\nHost: localhost\r\n"
HOLD = {"say nothing": b"", "say half of it": HEAD, "do not read": (HEAD + b"\r\n") * 3}


@pytest.mark.fault("X3")
@pytest.mark.parametrize("how", HOLD)
async def test_clients_that_only_hold_their_place_make_room_for_who_asks(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a handful of slow clients that keep operator and scraper out for as long as they like."""
    # GIVEN limits for single connections that are no way out, and requests that never wait
    for limit in ("IDLE_S", "SEND_WITHIN_S", "CONNECTION_LIFE_S", "REQUESTS_PER_S", "CONNECTIONS_PER_S"):
        monkeypatch.setattr(server, limit, 1000)
    monkeypatch.setattr(server, "PATIENCE_S", 0.25)
    # An answer larger than all buffers on the way.
    large = PipelineView(name="orders", state="running", detail="x" * 5_000_000)
    async with serving(Fixed(large)) as client, AsyncExitStack() as stack:
        # WHEN as many as there may be hold their place
        streams = [await stack.enter_async_context(await client.stream()) for _ in range(server.MAX_CONNECTIONS)]
        for stream in streams:
            await stream.send_all(HOLD[how])
        # THEN whoever asks is served, and the first of them is cut off
        with trio.fail_after(WAIT_S):
            while not await client.answers():
                pass
            with suppress(trio.BrokenResourceError):
                while True:
                    await streams[0].send_all(b"x")
                    await trio.sleep(0.01)


@pytest.mark.fault("X3", "X4")
async def test_clients_that_ask_without_a_pause_take_turns_with_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against places that are kept for a minute by who asks as fast as he can."""
    for limit in ("IDLE_S", "CONNECTION_LIFE_S", "CONNECTIONS_PER_S"):
        monkeypatch.setattr(server, limit, 1000)
    async with serving(Fixed(RUNNING)) as client, trio.open_nursery() as crowd:
        # GIVEN as many connections as there may be
        streams = [await client.stream() for _ in range(server.MAX_CONNECTIONS)]
        assert not await client.answers()

        # WHEN each of them is used again and again, and opened again when it ends
        for stream in streams:
            crowd.start_soon(_hammer, client, stream)

        # THEN whoever asks is served
        with trio.fail_after(WAIT_S):
            while not await client.answers():
                pass
        crowd.cancel_scope.cancel()


async def _hammer(client: Client, stream: trio.SocketStream) -> None:
    while True:
        with suppress(OSError, trio.BrokenResourceError):
            async with stream:
                while True:
                    await stream.send_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    if not await stream.receive_some(65536):
                        break
        stream = await client.stream()


@pytest.mark.fault("X3")
async def test_a_client_that_never_reads_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a server that cannot stop because one client does not read its answer."""
    # GIVEN an answer larger than all buffers on the way
    monkeypatch.setattr(server, "SEND_WITHIN_S", 0.5)
    huge = PipelineView(name="orders", state="running", detail="x" * 20_000_000)
    async with AsyncExitStack() as stack:
        with trio.fail_after(WAIT_S):
            async with serving(Fixed(huge)) as client:
                # WHEN its reader stops reading, but stays
                stream = await stack.enter_async_context(await client.stream())
                await stream.send_all(b"GET /pipelines/orders HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await stream.receive_some(10)
                # THEN others are served, and the server stops in time (the end of this block)
                assert (await client.get("/health")).code == 200


def _over_http2(path: str | None) -> bytes:
    headers = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost")]
    headers += [(":path", path)] if path is not None else []
    block = Encoder().encode(headers)
    frames = b"\0\0\0\4\0\0\0\0\0" + len(block).to_bytes(3, "big") + b"\1\5\0\0\0\1" + block
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frames


GARBAGE = {
    "no http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "a huge header": b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    "a huge body": b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n" + b"b" * 100_000,
    "a chunked body": b"GET /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\nxx",
    "two lengths": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "bad utf-8": b"GET /pipelines/%ff%fe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100),
    "a non-ascii path over http 2": _over_http2("/\xff\xfe"),
    "no path over http 2": _over_http2(None),
}  # fmt: skip
NOT_SPOKEN = (b"HTTP/1.1 501", b"HTTP/1.1 505")


@pytest.mark.fault("X3")
@pytest.mark.parametrize("kind", GARBAGE)
async def test_garbage_ends_its_own_connection_only(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Guards against a server that a stranger's bytes can take down, or make say more than 4xx."""
    async with serving(Fixed(RUNNING)) as client:
        async with await client.stream() as stream:
            data = b""
            with trio.fail_after(WAIT_S):
                try:
                    await stream.send_all(GARBAGE[kind])
                    while chunk := await stream.receive_some(65536):
                        data += chunk
                except trio.BrokenResourceError:
                    pass
        assert not data or data[9:10] == b"4" or data.startswith(NOT_SPOKEN), data[:200]
        assert b"Traceback" not in data
        assert (await client.get("/health")).code == 200
    capfd.readouterr()


@pytest.mark.fault("X3")
async def test_a_connection_that_fails_inside_ends_alone(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Guards against a bug of the HTTP library that takes the server down with one connection."""
    failed = trio.Event()

    async def fail(self: object) -> None:
        await trio.lowlevel.checkpoint()
        failed.set()
        raise RuntimeError("inside the library")

    async with serving(Fixed(RUNNING)) as client, await client.stream() as witness:
        with trio.fail_after(WAIT_S):
            # GIVEN a connection that was served before
            await witness.send_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b'"state"' in await _until(witness, b"}\n")
            # WHEN another one fails in an unforeseen way
            with monkeypatch.context() as patched:
                patched.setattr(http1.Connection, "_read_data", fail)
                assert not await client.answers()
                await failed.wait()
            # THEN the first one goes on
            await witness.send_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"HTTP/1.1 200" in await _until(witness, b"}\n")
    capfd.readouterr()


async def _until(stream: trio.SocketStream, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        data += await stream.receive_some(65536)
    return data


@pytest.mark.fault("X3")
async def test_connections_that_are_over_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a prober that connects and goes away, and so locks everybody out."""
    monkeypatch.setattr(server, "IDLE_S", 1000)
    async with serving(Fixed(RUNNING)) as client:
        with trio.fail_after(WAIT_S):
            for _ in range(2 * server.MAX_CONNECTIONS):
                await (await client.stream()).aclose()
            while not await client.answers():
                pass


@pytest.mark.fault("X3")
async def test_a_crash_of_the_server_is_repaired_on_the_same_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against an admin that is gone for good after one error, or comes back somewhere else."""
    crashed = trio.Event()

    async def crash_once(name: str) -> None:
        await trio.lowlevel.checkpoint()
        if not crashed.is_set():
            crashed.set()
            raise RuntimeError(f"injected at {name}")

    async with serving(Fixed(RUNNING)) as client:
        # GIVEN a server that has served
        assert (await client.get("/health")).code == 200

        # WHEN its loop raises at the next turn, which the next connection brings about
        monkeypatch.setattr(server, "failpoint_async", crash_once)
        await client.answers()

        # THEN it is back on the same port
        with trio.fail_after(WAIT_S):
            await crashed.wait()
            while not await client.answers():
                pass


@pytest.mark.fault("X3")
async def test_clients_that_never_read_make_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against connections that are given up but kept, and so keep everybody out until their time is over."""
    # GIVEN a time to take an answer in, and other limits that are no way out
    monkeypatch.setattr(server, "IDLE_S", 1000)
    monkeypatch.setattr(server, "CONNECTION_LIFE_S", 1000)
    monkeypatch.setattr(server, "SEND_WITHIN_S", 0.5)
    large = PipelineView(name="orders", state="running", detail="x" * 5_000_000)
    async with serving(Fixed(large)) as client, AsyncExitStack() as stack:
        # WHEN as many clients as there may be ask for more than fits into all buffers on the way, and only stay
        for _ in range(server.MAX_CONNECTIONS):
            stream = await stack.enter_async_context(await client.stream())
            await stream.send_all(b"GET /pipelines/orders HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
        # THEN others are served
        with trio.fail_after(WAIT_S):
            while not await client.answers():
                pass


@pytest.mark.fault("X4")
async def test_requests_above_the_rate_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a scraper that takes the processor from the pipelines."""
    # GIVEN a rate that nobody lives to see, and a burst of three
    monkeypatch.setattr(server, "REQUESTS_PER_S", 0.001)
    monkeypatch.setattr(server, "REQUESTS_AT_ONCE", 3)
    async with serving(Fixed(RUNNING)) as client, await client.stream() as waiting:
        for _ in range(3):
            assert (await client.get("/health")).code == 200

        # WHEN one more comes
        await waiting.send_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")

        # THEN it is neither answered nor refused
        with trio.move_on_after(0.5) as silence:
            await waiting.receive_some(1)
        assert silence.cancelled_caught


@pytest.mark.fault("X3")
async def test_connections_above_the_rate_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a flood of connections that does the same."""
    monkeypatch.setattr(server, "CONNECTIONS_PER_S", 0.001)
    monkeypatch.setattr(server, "CONNECTIONS_AT_ONCE", 3)
    async with serving(Fixed(RUNNING)) as client:
        for _ in range(3):
            assert (await client.get("/health")).code == 200

        async with await client.stream() as waiting:
            await waiting.send_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            with trio.move_on_after(0.5) as silence:
                await waiting.receive_some(1)
        assert silence.cancelled_caught


_TCP_REPAIR = 19
"""Linux's number; Python has no name for it. A socket in this state is closed without a word to the other side."""


@pytest.mark.fault("X3", "N3")
async def test_clients_that_vanish_without_a_word_make_room_for_others() -> None:
    """Guards against half-open connections, of which no byte and no end ever comes, that are kept for ever."""
    async with serving(Fixed(RUNNING)) as client:
        streams = [await client.stream() for _ in range(server.MAX_CONNECTIONS)]
        for number, stream in enumerate(streams):
            if number % 2:
                await stream.send_all(b"GET /health HTTP/1.1\r\nHost: loc")
            try:
                stream.socket.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
            except PermissionError:
                pytest.skip("TCP_REPAIR needs root")
            stream.socket.close()

        with trio.fail_after(WAIT_S):
            while not await client.answers():
                pass
