"""The admin HTTP byte by byte: what a stranger can put into a request, and the one thing each of it leads to."""

from __future__ import annotations

import json

import pytest

from deltaforge.admin import server
from deltaforge.admin.guard import TOKEN_VARIABLE, Guard
from deltaforge.errors import ConfigError
from tests.support.admin import RUNNING, Fixed, request, serving

TOKEN = "correct-horse-battery"
ORDERS = "/pipelines/orders"

pytestmark = pytest.mark.fault("X3")


@pytest.fixture(autouse=True)
def _short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's own limit, shorter: nothing here depends on how long it is."""
    monkeypatch.setattr(server, "IDLE_S", 1)


TARGETS: dict[str | bytes, int] = {
    "/health": 200,
    "/health/": 200,
    "/health?a=%ff&b=%00&__proto__=1": 200,
    ORDERS: 200,
    "/pipelines/%6frders": 200,
    "/pipelines/../health": 404,
    "/pipelines/%2e%2e/health": 404,
    "/pipelines/..%2fhealth": 404,
    "/pipelines/%2e%2e%2f%2e%2e%2fetc%2fpasswd": 404,
    "/../../etc/passwd": 404,
    "//health": 404,
    "//evil.example/health": 404,
    "/pipelines//orders": 404,
    "/pipelines%2forders": 404,
    "/pipelines%2Forders": 404,
    "/pipelines%5corders": 404,
    "/\\health": 404,
    "/HEALTH": 404,
    "/health#fragment": 404,
    "/health%00": 404,
    "/pipelines/orders%00": 404,
    "/pipelines/orders%20": 404,
    "/pipelines/orders;v=1": 404,
    "/pipelines/%ff%fe": 404,
    "/pipelines/%c3%a4": 404,
    "/pipelines/a%0d%0aSet-Cookie:%20x=1": 404,
    "/pipelines/%": 404,
    "/pipelines/%zz": 404,
    "/pipelines/{{7*7}}": 404,
    "/pipelines/%3Cscript%3Ealert(1)%3C/script%3E": 404,
    "/pipelines/" + "a" * 15_000: 404,
    "/" + "%2e%2e/" * 2000: 404,
    "/" + "a" * 100_000: 431,
    "": 400,
    "*": 400,
    "health": 400,
    "localhost:80": 400,
    "/a b": 400,
    b"/health\0": 400,
    b"/pipelines/\xc3\xa4": 400,
    b"/pipelines/\x1b[2J": 400,
    "http://localhost/health": 200,
    "HTTP://127.0.0.1:8080/health": 200,
    "https://localhost/health": 200,
    "http://localhost": 404,
    "http://evil.example/health": 421,
    "http://localhost@evil.example/health": 400,
    "http://[::1/health": 421,
    "ftp://localhost/health": 400,
    "file:///etc/passwd": 400,
    "gopher://localhost/health": 400,
}  # fmt: skip


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: repr(target[:40]))
async def test_every_target_has_one_answer(target: str | bytes) -> None:
    """Guards against a second spelling of a page, which the rules of a proxy would miss, and against a crash."""
    async with serving(Fixed(RUNNING)) as client:
        answer = await client.send(request(target))

    assert (answer.codes, answer.ended) == ([TARGETS[target]], True), answer.data[:300]
    assert b"Set-Cookie" not in answer.data
    assert b"script" not in answer.body


@pytest.mark.parametrize(
    ("method", "code"),
    [("GET", 200), ("HEAD", 200), ("OPTIONS", 200), ("POST", 405), ("PUT", 405), ("DELETE", 405), ("PATCH", 405),
     ("TRACE", 405), ("CONNECT", 405), ("PROPFIND", 405), ("GETX", 405), ("G\0T", 400), ("GE T", 400)],
)  # fmt: skip
async def test_only_methods_that_read_are_served(method: str, code: int) -> None:
    """Guards against a method that changes something, or sends the request's own secrets back."""
    async with serving(Fixed(RUNNING)) as client:
        answer = await client.send(request(ORDERS, "X-Mine: echo-me", method=method))

    assert (answer.codes, answer.ended) == ([code], True)
    assert b"echo-me" not in answer.data


@pytest.mark.parametrize(
    ("version", "code"),
    [("1.1", 200), ("1.0", 200), ("0.9", 505), ("1.2", 505), ("2.0", 505), ("9.9", 505), ("1", 400), ("", 400)],
)
async def test_versions_of_http_that_are_not_spoken_are_refused(version: str, code: int) -> None:
    """Guards against a client that takes our answer for one of its version."""
    async with serving(Fixed(RUNNING)) as client:
        answer = await client.send(request(version=version))

    assert (answer.codes, answer.ended) == ([code], True)


async def test_without_keep_alive_the_connection_ends_with_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a client of HTTP/1.0 that reads to the end of the connection, and would wait for its idle time."""
    monkeypatch.setattr(server, "IDLE_S", 1000)
    async with serving(Fixed(RUNNING)) as client:
        old = await client.send(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")
        told = await client.send(request())

    assert (old.codes, old.ended) == (told.codes, told.ended) == ([200], True)


async def test_after_an_answer_a_silent_client_is_let_go() -> None:
    """Guards against keep-alive connections that nobody uses and that keep others out."""
    async with serving(Fixed(RUNNING)) as client:
        answer = await client.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert (answer.codes, answer.ended) == ([200], True)


async def test_requests_in_a_row_are_answered_in_order() -> None:
    """Guards against answers that meet the wrong question of a client that does not wait."""
    paths = ["/health", "/nothing", ORDERS, "/ready", "/pipelines/nobody"] * 4
    async with serving(Fixed(RUNNING)) as client:
        written = b"".join(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for path in paths)
        answer = await client.send(written + request("/pipelines"))

    assert answer.codes == [200, 404, 200, 200, 404] * 4 + [200]
    assert answer.ended


HIDDEN = request(ORDERS)
SMUGGLED: dict[str, tuple[bytes, list[int]]] = {
    "two lengths": (b"Content-Length: 0\r\nContent-Length: %d" % len(HIDDEN), [400]),
    "a list of lengths": (b"Content-Length: 0, %d" % len(HIDDEN), [400]),
    "a length and chunks": (b"Content-Length: %d\r\nTransfer-Encoding: chunked" % len(HIDDEN), [413]),
    "chunks and a length": (b"Transfer-Encoding: chunked\r\nContent-Length: 5", [413]),
    "chunks": (b"Transfer-Encoding: chunked", [413]),
    "chunks twice": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", [501]),
    "chunks after another": (b"Transfer-Encoding: identity, chunked", [501]),
    "other chunks": (b"Transfer-Encoding: xchunked", [501]),
    "chunks behind a tab": (b"Transfer-Encoding:\tchunked", [413]),
    "chunks before a blank": (b"Transfer-Encoding : chunked", [400]),
    "chunks behind a control character": (b"Transfer-Encoding: \x0bchunked", [400]),
    "chunks in capitals": (b"TRANSFER-ENCODING: CHUNKED", [413]),
    "a header without a name": (b": y", [400]),
    "a carriage return inside": (b"X: y\rContent-Length: 5", [400]),
    "a NUL inside": (b"X: y\0z", [400]),
    "a negative length": (b"Content-Length: -1", [400]),
    "a length with a sign": (b"Content-Length: +1", [400]),
    "a length in hexadecimal": (b"Content-Length: 0x10", [400]),
    "a length of many digits": (b"Content-Length: " + b"9" * 30, [400]),
    "a body that is waited for": (b"Content-Length: 500\r\nExpect: 100-continue", [100, 413]),
    # No body: what follows is a request of its own, and no good one.
    "a folded header": (b"X: y\r\n Content-Length: %d" % len(HIDDEN), [200, 400]),
    "a length of zeros": (b"Content-Length: 000", [200, 400]),
}


@pytest.mark.parametrize("kind", SMUGGLED)
async def test_no_header_hides_a_second_request(kind: str) -> None:
    """Guards against request smuggling: behind a proxy that reads lengths in another way, somebody else's answer."""
    header, codes = SMUGGLED[kind]
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + header + b"\r\n\r\n"
    async with serving(Fixed(RUNNING)) as client:
        answer = await client.send(head + b"0\r\n\r\n" + HIDDEN)

    assert (answer.codes, answer.ended) == (codes, True), answer.data
    assert b"orders" not in answer.data


UPGRADES = {
    "http 2 by upgrade": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
    "websocket": (
        "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ),
    "tls": ("Connection: Upgrade", "Upgrade: TLS/1.2"),
}  # fmt: skip


@pytest.mark.parametrize("kind", UPGRADES)
async def test_no_upgrade_is_heard(kind: str) -> None:
    """Guards against protocols whose frames, windows and tables a client can play with."""
    async with serving(Fixed(RUNNING)) as client:
        answer = await client.send(request("/health", *UPGRADES[kind]))

    assert (answer.codes, answer.ended) == ([200], True)
    assert json.loads(answer.body)["state"] == "ok"


async def test_http_2_by_prior_knowledge_is_refused() -> None:
    """Guards against the same without asking."""
    async with serving(Fixed(RUNNING)) as client:
        answer = await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" * 10)

    assert (answer.codes, answer.ended) == ([505], True)


BODIES = {
    "json": b'{"state": "stopped"}',
    "no json": b"{'state': stopped",
    "deep json": b"[" * 500_000,
    "a huge number": b"9" * 1_000_000,
    "a key twice": b'{"a": 1, "a": 2}',
    "a prototype": b'{"__proto__": {"admin": true}, "constructor": {}}',
    "not utf-8": b'{"a": "\xff\xfe\x00"}',
    "utf-16": '{"a": 1}'.encode("utf-16"),
    "a lone surrogate": b'{"a": "\\ud800"}',
    "infinity": b'{"a": NaN, "b": 1e999}',
    "yaml": b"!!python/object/apply:os.system [id]",
    "pickle": b"cos\nsystem\n(S'id'\ntR.",
    "xml": b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
    "gzip": b"\x1f\x8b\x08\0" + bytes(1000),
    "ten megabytes": b"x" * 10_000_000,
}


@pytest.mark.parametrize("kind", BODIES)
async def test_no_body_is_ever_read(kind: str) -> None:
    """Guards against a parser where nothing has to be parsed: whatever is in a body, it is refused unread."""
    body = BODIES[kind]
    headers = ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    async with serving(Fixed(RUNNING)) as client:
        answer = await client.send(request(ORDERS, *headers, method="POST") + body[:60_000])
        assert (await client.get("/health")).code == 200

    assert (answer.codes, answer.ended) == ([413], True)


HOSTS: dict[bytes | str, int] = {
    "localhost": 200,
    "LocalHost:65535": 200,
    "127.9.9.9:1": 200,
    "[::1]": 200,
    "[::1]:8080": 200,
    "": 421,
    "localhost.": 421,
    "localhost:80@evil.example": 421,
    "localhost:http": 421,
    "localhost:123456": 421,
    "localhost evil.example": 421,
    "localhost,evil.example": 421,
    "localhost/evil.example": 421,
    "user@localhost": 421,
    "[::1]evil.example": 421,
    "[::1": 421,
    "[localhost]": 421,
    "::1": 421,
    "[::ffff:10.0.0.1]": 421,
    "0.0.0.0": 421,
    "2130706433": 421,
    "0x7f.1": 421,
    b"\xff\xfe": 421,
    "localhost\x00": 400,
    "a" * 15_000: 421,
    "a" * 64: 421,
    "a..b": 421,
    ".": 421,
    "xn--\xff": 421,
}


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: repr(host[:40]))
async def test_a_host_header_names_this_machine_exactly(host: bytes | str) -> None:
    """Guards against a name that only begins like ours."""
    async with serving(Fixed(RUNNING)) as client:
        answer = await client.send(request(ORDERS, host=host))

    assert (answer.codes, answer.ended) == ([HOSTS[host]], True)
    assert (b"orders" in answer.data) == (HOSTS[host] == 200)


@pytest.mark.parametrize(
    ("headers", "host", "code"),
    [
        (["Host: localhost"], "evil.example", 400),
        (["Host: evil.example"], "localhost", 400),
        (["X-Forwarded-Host: localhost"], "evil.example", 421),
        (["Forwarded: host=localhost"], "evil.example", 421),
        (["X-Forwarded-For: 127.0.0.1", "Remote-Addr: 127.0.0.1"], "evil.example", 421),
        ([], None, 400),
    ],
)
async def test_nothing_else_stands_for_the_host_header(headers: list[str], host: str | None, code: int) -> None:
    """Guards against a check that reads one header and a framework that reads another."""
    async with serving(Fixed(RUNNING)) as client:
        answer = await client.send(request(ORDERS, *headers, host=host))

    assert (answer.codes, answer.ended) == ([code], True)


TOKENS: dict[str, list[bytes]] = {
    "absent": [],
    "empty": [b"Authorization:"],
    "no scheme": [f"Authorization: {TOKEN}".encode()],
    "no token": [b"Authorization: Bearer"],
    "blanks": [b"Authorization: Bearer      "],
    "another scheme": [f"Authorization: Basic {TOKEN}".encode()],
    "a longer scheme": [f"Authorization: BearerX {TOKEN}".encode()],
    "the first half": [f"Authorization: Bearer {TOKEN[:10]}".encode()],
    "one letter short": [f"Authorization: Bearer {TOKEN[:-1]}".encode()],
    "one letter more": [f"Authorization: Bearer {TOKEN}x".encode()],
    "other capitals": [f"Authorization: Bearer {TOKEN.upper()}".encode()],
    "twice in one": [f"Authorization: Bearer {TOKEN} {TOKEN}".encode()],
    "in a list": [f"Authorization: Bearer x, Bearer {TOKEN}".encode()],
    "quoted": [f'Authorization: Bearer "{TOKEN}"'.encode()],
    "very long": [b"Authorization: Bearer " + b"a" * 15_000],
    "bytes that are no text": [b"Authorization: Bearer \xff\xfe\xfd"],
    "utf-8": ["Authorization: Bearer schlüssel".encode()],
    "in another header": [f"X-Api-Key: {TOKEN}".encode(), f"Cookie: token={TOKEN}".encode()],
    "a wrong one before": [b"Authorization: Bearer wrong", f"Authorization: Bearer {TOKEN}".encode()],
}


@pytest.mark.parametrize("kind", TOKENS)
async def test_a_token_is_right_to_the_last_letter_or_it_is_none(kind: str) -> None:
    """Guards against a comparison that stops early, and a header that is read generously."""
    async with serving(Fixed(RUNNING), host="0.0.0.0", token=TOKEN) as client:
        shown = await client.send(request(ORDERS, *TOKENS[kind]))
        health = await client.send(request("/health", *TOKENS[kind]))
        in_the_address = await client.send(request(f"{ORDERS}?token={TOKEN}&access_token={TOKEN}"))

    assert shown.codes == in_the_address.codes == [401]
    assert b"orders" not in shown.data + in_the_address.data
    assert json.loads(health.body) == {"state": "ok"}


@pytest.mark.parametrize(
    "token", ["schlüssel-für-die-tür", "日本語の鍵", "a b  c", "x" * 8000, "'\";--", "\udcff\udcfe-raw"]
)
async def test_any_token_that_a_header_can_carry_opens(token: str) -> None:
    """Guards against an operator who is locked out by a letter with an accent."""
    raw = token.encode("utf-8", "surrogateescape")
    async with serving(Fixed(RUNNING), host="0.0.0.0", token=token) as client:
        answer = await client.send(request(ORDERS, b"Authorization: Bearer  " + raw))

    assert answer.codes == [200]


@pytest.mark.parametrize("token", ["secret\n", " secret", "secret\t", "sec\nret", "sec\0ret", "\x7f", "   "])
def test_a_token_that_no_header_can_carry_is_refused_at_the_start(token: str) -> None:
    """Guards against a server that lets nobody in, and says so to nobody."""
    for host in ("127.0.0.1", "0.0.0.0"):
        with pytest.raises(ConfigError, match=TOKEN_VARIABLE) as caught:
            Guard(host, token)
        assert "sec" not in caught.value.line()


async def test_a_token_counts_on_loopback_too() -> None:
    """Guards against a variable that is set and does nothing."""
    async with serving(Fixed(RUNNING), token=TOKEN) as client:
        without = await client.send(request(ORDERS))
        within = await client.send(request(ORDERS, f"Authorization: Bearer {TOKEN}"))

    assert (without.codes, within.codes) == ([401], [200])
