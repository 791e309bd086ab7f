"""The admin HTTP on a real port: what it answers, and to whom."""

from __future__ import annotations

from typing import Any

import pytest

from deltaforge.admin import openapi
from deltaforge.admin.guard import Guard
from deltaforge.admin.server import bind, url_of
from deltaforge.errors import ConfigError
from deltaforge.metrics import PipelineMetrics
from deltaforge.status import PipelineView
from tests.support.admin import RUNNING, Fixed, serving

TOKEN = "correct-horse-battery"
OPEN = ("/health", "/ready", "/metrics")


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
    wrong = state in ("starting", "blocked", "refused", "failed")
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


async def test_the_document_for_programs_is_served() -> None:
    """Guards against a client generator that has to be given a file."""
    async with serving(Fixed(RUNNING)) as client:
        answer = await client.get("/openapi.json")

    assert (answer.code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.body == openapi.document(token=False)


@pytest.mark.parametrize("path", ["/pipelines/nobody", "/", "/nothing", "/pipelines/a/b", "/pipelines/..%2f..%2fetc"])
async def test_an_unknown_address_is_a_json_404(path: str) -> None:
    """Guards against an HTML page where a program reads JSON."""
    async with serving(Fixed(RUNNING)) as client:
        answer = await client.get(path)

    assert (answer.code, answer.headers["content-type"]) == (404, "application/json")
    assert answer.body["error"]


@pytest.mark.fault("X2")
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


@pytest.mark.fault("X3")
async def test_beyond_loopback_a_stranger_learns_the_state_word_only() -> None:
    """Guards against names, errors and positions for whoever can reach the port."""
    refused = PipelineView(name="orders", state="refused", detail="secret detail")
    PipelineMetrics("orders", "acme")
    async with serving(Fixed(refused), host="0.0.0.0", token=TOKEN) as client:
        for path in (*OPEN, "/pipelines", "/pipelines/orders", "/pipelines/nobody", "/openapi.json"):
            for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
                answer = await client.get(path, header)
                assert "orders" not in answer.text
                assert "detail" not in answer.text
        assert (await client.get("/health")).body == {"state": "failed"}
        assert (await client.get("/ready")).body == {"state": "not ready"}
        metrics = (await client.get("/metrics")).text.splitlines()
        assert [line for line in metrics if line[0] != "#"] == ['deltaforge_health{state="failed"} 1.0']
        unauthorized = await client.get("/pipelines/orders")
        assert (await client.get("/openapi.json")).code == 401

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
