"""The admin HTTP on a real port, asked by clients that behave and by clients that do not."""

from __future__ import annotations

import http.client
import json
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import trio
from hpack import Encoder

from actors import ChildSpec, Supervisor, SupervisorSpec
from deltaforge.admin import server
from deltaforge.admin.guard import Guard
from deltaforge.admin.server import AdminServer, bind, url_of
from deltaforge.errors import ConfigError
from deltaforge.metrics import PipelineMetrics
from deltaforge.status import ActorView, Health, PipelineView, Ready, judge_health, judge_ready

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

TOKEN = "correct-horse-battery"
WAIT_S = 30


@pytest.fixture(autouse=True)
def _short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's own limits, shorter: nothing here depends on how long they are."""
    monkeypatch.setattr(server, "IDLE_S", 1)


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


class Client:
    """Asks the server, one connection for each request."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    async def get(self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Answer:
        with trio.fail_after(WAIT_S):
            return await trio.to_thread.run_sync(self._ask, method, path, dict(headers or {}))

    async def stream(self) -> trio.SocketStream:
        return await trio.open_tcp_stream(self.host, self.port)

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


RUNNING = PipelineView(name="orders", tenant="acme", state="running", actors=ActorView(id="orders", kind="supervisor"))


@pytest.mark.parametrize(
    ("state", "health", "ready"),
    [
        ("starting", 200, 503),
        ("running", 200, 200),
        ("standby", 200, 200),
        ("blocked", 200, 503),
        ("refused", 503, 503),
        ("failed", 503, 503),
        ("stopping", 200, 503),
    ],
)
async def test_health_and_readiness_follow_the_pipeline(state: Any, health: int, ready: int) -> None:
    """Guards against a process that is restarted while it only waits, or gets work while it cannot."""
    async with serving(Fixed(PipelineView(name="orders", state=state, detail="the reason"))) as client:
        first, second = await client.get("/health"), await client.get("/ready")

    assert (first.code, second.code) == (health, ready)
    assert first.headers["content-type"] == "application/json"
    wrong = state in ("blocked", "refused", "failed")
    assert first.body["problems"] == ([f"pipeline orders is {state}: the reason"] if wrong else [])
    assert bool(second.body["reasons"]) == (ready == 503)


async def test_pipelines_are_listed_and_shown_one_by_one() -> None:
    """Guards against a status page that answers with something else than the manual says."""
    async with serving(Fixed(RUNNING)) as client:
        listed, shown = await client.get("/pipelines"), await client.get("/pipelines/orders")

    assert [(entry["name"], entry["state"]) for entry in listed.body] == [("orders", "running")]
    assert shown.body["actors"]["kind"] == "supervisor"
    assert set(shown.body) == set(PipelineView.__struct_fields__)


async def test_metrics_are_in_the_text_format() -> None:
    """Guards against a scraper that gets JSON."""
    PipelineMetrics("orders", "acme")
    async with serving(Fixed(RUNNING)) as client:
        answer = await client.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'deltaforge_received_events_total{pipeline="orders",tenant="acme"}' in answer.text
    assert 'deltaforge_health{state="ok"} 1.0' in answer.text


@pytest.mark.parametrize("path", ["/pipelines/nobody", "/", "/nothing", "/pipelines/a/b", "/pipelines/..%2f..%2fetc"])
async def test_an_unknown_address_is_a_json_404(path: str) -> None:
    """Guards against an HTML page where a program reads JSON."""
    async with serving(Fixed(RUNNING)) as client:
        answer = await client.get(path)

    assert (answer.code, answer.headers["content-type"]) == (404, "application/json")
    assert answer.body["error"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_nothing_can_be_changed(method: str) -> None:
    """Guards against a write route that slipped in."""
    async with serving(Fixed(RUNNING)) as client:
        answer = await client.get("/pipelines/orders", method=method)

    assert answer.code == 405
    assert "GET" in answer.headers["allow"]


async def test_an_error_of_ours_shows_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    """Guards against code and texts of exceptions on the network; the log has them."""
    async with serving(Fixed(RUNNING)) as client:
        answer = await client.get("/pipelines/broken")
        assert (await client.get("/health")).code == 200

    assert (answer.code, answer.body["error"]) == (500, "internal error")
    assert "hunter2" not in answer.text
    assert "Traceback" not in answer.text
    capfd.readouterr()


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:80", "10.0.0.1", "localhost.evil.example", ""]
)
async def test_on_loopback_another_name_gets_nothing(host: str) -> None:
    """Guards against a web page in the operator's browser that rebinds its own name to 127.0.0.1."""
    async with serving(Fixed(RUNNING)) as client:
        for path in ("/health", "/pipelines/orders", "/metrics"):
            answer = await client.get(path, {"Host": host})
            assert answer.code == 421
            assert "orders" not in answer.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080", "127.3.2.1"])
async def test_every_name_of_this_machine_is_served(host: str) -> None:
    """Guards against a Host check that locks the operator out."""
    async with serving(Fixed(RUNNING)) as client:
        assert (await client.get("/health", {"Host": host})).code == 200


def test_beyond_loopback_there_is_no_server_without_a_token() -> None:
    """Guards against positions and table names open to the network."""
    for host in ("0.0.0.0", "::", "10.1.2.3", "example.org"):
        with pytest.raises(ConfigError, match="without a token") as caught:
            Guard(host, None)
        assert "DELTAFORGE_API_TOKEN" in caught.value.hint
        with pytest.raises(ConfigError):
            Guard(host, "")


async def test_beyond_loopback_a_stranger_learns_the_state_word_only() -> None:
    """Guards against names, errors and positions for whoever can reach the port."""
    refused = PipelineView(name="orders", state="refused", detail="secret detail")
    PipelineMetrics("orders", "acme")
    async with serving(Fixed(refused), host="0.0.0.0", token=TOKEN) as client:
        for path in ("/health", "/ready", "/metrics", "/pipelines", "/pipelines/orders", "/pipelines/nobody"):
            for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
                answer = await client.get(path, header)
                assert "orders" not in answer.text
                assert "detail" not in answer.text
        assert (await client.get("/health")).body == {"state": "failed"}
        assert (await client.get("/ready")).body == {"state": "not ready"}
        metrics = (await client.get("/metrics")).text.splitlines()
        assert [line for line in metrics if line[0] != "#"] == ['deltaforge_health{state="failed"} 1.0']
        unauthorized = await client.get("/pipelines/orders")

    assert unauthorized.code == 401
    assert unauthorized.headers["www-authenticate"].startswith("Bearer")


async def test_beyond_loopback_the_token_opens_everything() -> None:
    """Guards against a token nobody can use."""
    async with serving(Fixed(RUNNING), host="0.0.0.0", token=TOKEN) as client:
        header = {"Authorization": f"bearer {TOKEN}", "Host": "deltaforge.example"}
        assert (await client.get("/pipelines/orders", header)).body["name"] == "orders"
        assert (await client.get("/health", header)).body == {"state": "ok", "problems": []}
        assert "deltaforge_received" in (await client.get("/metrics", header)).text


def test_a_taken_port_is_a_configuration_error() -> None:
    """Guards against a stack trace for the most common mistake, and against a silent second server."""
    with bind("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1 port {port}: Address already in use") as caught:
            bind("127.0.0.1", port)
        assert "--api-addr" in caught.value.hint
        assert url_of(sock) == f"http://127.0.0.1:{port}"


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


async def test_too_many_connections_are_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against file descriptors that the pipelines need."""
    monkeypatch.setattr(server, "IDLE_S", 1000)
    async with serving(Fixed(RUNNING)) as client:
        streams = [await client.stream() for _ in range(server.MAX_CONNECTIONS + 5)]
        closed = 0
        with trio.fail_after(WAIT_S):
            for stream in reversed(streams[-5:]):
                try:
                    closed += await stream.receive_some(1) == b""
                except trio.BrokenResourceError:
                    closed += 1
            for stream in streams:
                await stream.aclose()
            assert closed == 5
            while not await _answers(client):
                await trio.lowlevel.checkpoint()


async def _answers(client: Client) -> bool:
    try:
        return (await client.get("/health")).code == 200
    except (OSError, http.client.HTTPException):
        return False


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
    "a websocket": (
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ),
    "a non-ascii path over http 2": _over_http2("/\xff\xfe"),
    "no path over http 2": _over_http2(None),
}  # fmt: skip


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
        if data.startswith(b"HTTP/1.1 "):
            assert data[9:10] in b"4", data[:200]
        assert b"Traceback" not in data
        assert (await client.get("/health")).code == 200
    capfd.readouterr()


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
                patched.setattr(server._Connection, "_read_data", fail)
                assert not await _answers(client)
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


async def test_connections_that_are_over_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a prober that connects and goes away, and so locks everybody out."""
    monkeypatch.setattr(server, "IDLE_S", 1000)
    async with serving(Fixed(RUNNING)) as client:
        with trio.fail_after(WAIT_S):
            for _ in range(2 * server.MAX_CONNECTIONS):
                await (await client.stream()).aclose()
            while not await _answers(client):
                await trio.lowlevel.checkpoint()


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
        await _answers(client)

        # THEN it is back on the same port
        with trio.fail_after(WAIT_S):
            await crashed.wait()
            while not await _answers(client):
                await trio.lowlevel.checkpoint()
