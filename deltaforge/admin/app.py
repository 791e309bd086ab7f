"""The routes of the admin HTTP, over a read-only Status.

Rule 1: a handler is a plain function that takes one picture and returns; no waiting, nothing is changed.
Rule 2: every answer but /metrics is JSON, errors too; an error of ours is logged, its text never sent.
Rule 3: the guard is asked before anything else; before it only a turn is waited for.
Rule 4: a request with a body is refused and its connection ends, so that nobody ever has to agree with a proxy on where
        a body stops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import trio
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from deltaforge import metrics
from deltaforge.admin import openapi
from deltaforge.admin.bodies import ErrorBody, HealthBody, PipelineSummary, ReadyBody
from deltaforge.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from quart.wrappers.base import BaseRequestWebsocket
    from werkzeug.routing import MapAdapter

    from deltaforge.admin.guard import Guard
    from deltaforge.admin.pace import Pace
    from deltaforge.status import Status

log = get_logger("deltaforge.admin")

_FIXED_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class _App(QuartTrio):
    def create_url_adapter(self, request: BaseRequestWebsocket | None) -> MapAdapter | None:
        # Quart's own puts the Host header through IDNA, which fails for some before anybody could look at it.
        if request is None:
            return None
        return self.url_map.bind("localhost", default_method=request.method, path_info=request.path)


def build_app(status: Status, guard: Guard, pace: Pace, crowded: Callable[[], bool] = lambda: False) -> QuartTrio:
    """The ASGI application that serves `status` to whom `guard` lets in, at this `pace`.

    While it is `crowded` every answer ends its connection, so that nobody keeps a place that others wait for.
    """
    app = _App("deltaforge.admin", static_folder=None)
    app.config.update(PROPAGATE_EXCEPTIONS=False, MAX_CONTENT_LENGTH=1024, BODY_TIMEOUT=5, RESPONSE_TIMEOUT=10)
    app.url_map.strict_slashes = False
    # A redirect would be built from the path.
    app.url_map.merge_slashes = False
    _add_checks(app, guard, pace, crowded)
    _add_routes(app, status, guard)
    return app


def _add_checks(app: QuartTrio, guard: Guard, pace: Pace, crowded: Callable[[], bool]) -> None:
    @app.before_request
    async def check() -> Response | None:
        await pace.turn()
        if not guard.host_allowed(request.headers.get("Host", "")):
            return _error(421, "this name is not served here", "use http://127.0.0.1 or http://localhost")
        if request.content_length or "chunked" in request.headers.get("Transfer-Encoding", ""):
            return _error(413, "requests have no body here", close=True)
        return None if _is_plain(request.scope["raw_path"]) else _error(404, "not found")

    @app.after_request
    async def finish(response: Response) -> Response:
        await trio.lowlevel.checkpoint()
        response.headers.update(_FIXED_HEADERS)
        if crowded():
            response.headers["Connection"] = "close"
        return response

    @app.errorhandler(Exception)
    async def failed(error: Exception) -> Response:
        await trio.lowlevel.checkpoint()
        return _answer_to(error)


def _answer_to(error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.code is not None and error.code >= 400:
        answer = _error(error.code, error.name.lower())
        if error.code == 405:
            answer.headers["Allow"] = "GET, HEAD, OPTIONS"
        return answer
    log.error("admin request failed", path=request.path[:200], exc_info=error)
    return _error(500, "internal error", "the log says more")


def _add_routes(app: QuartTrio, status: Status, guard: Guard) -> None:
    def health(full: bool) -> Response:
        picture = status.health()
        return _json(200 if picture.ok else 503, HealthBody.of(picture, full))

    def ready(full: bool) -> Response:
        picture = status.ready()
        return _json(200 if picture.ok else 503, ReadyBody.of(picture, full))

    def exposition(full: bool) -> Response:
        word = status.health().word
        text = metrics.exposition(word) if full else metrics.state_only(word)
        return Response(text, 200, content_type=metrics.CONTENT_TYPE)

    def pipelines(full: bool) -> Response:
        return _json(200, [PipelineSummary.of(view) for view in status.pipelines()]) if full else _unauthorized()

    def pipeline(full: bool, name: str) -> Response:
        if not full:
            return _unauthorized()
        view = status.pipeline(name)
        return _error(404, "no pipeline of this name", "/pipelines lists them") if view is None else _json(200, view)

    described = openapi.encoded(token=guard.wants_token)

    def document(full: bool) -> Response:
        return Response(described, 200, content_type="application/json") if full else _unauthorized()

    answers: dict[str, Callable[..., Response]] = {
        "/health": health,
        "/ready": ready,
        "/metrics": exposition,
        "/pipelines": pipelines,
        "/pipelines/<name>": pipeline,
        "/openapi.json": document,
    }
    for path, answer in answers.items():
        app.add_url_rule(path, endpoint=answer.__name__, view_func=_handler(answer, guard), methods=["GET"])


def _handler(answer: Callable[..., Response], guard: Guard) -> Callable[..., Awaitable[Response]]:
    # Quart would run a plain function in a worker thread, for which there is no reason here.
    async def handle(**parts: str) -> Response:
        await trio.lowlevel.checkpoint()
        return answer(guard.sees_all(request.headers.get("Authorization", "")), **parts)

    return handle


def _json(code: int, body: object) -> Response:
    return Response(msgspec.json.encode(body) + b"\n", code, content_type="application/json")


def _error(code: int, error: str, hint: str = "", *, close: bool = False) -> Response:
    answer = _json(code, ErrorBody(error=error, hint=hint))
    if close:
        answer.headers["Connection"] = "close"
    return answer


def _is_plain(path: bytes) -> bool:
    """Whether a path has one spelling only, so that a proxy's rules for paths hold here too."""
    return b"//" not in path and b"%2f" not in path.lower()


def _unauthorized() -> Response:
    answer = _error(401, "unauthorized", "send the header Authorization: Bearer TOKEN")
    answer.headers["WWW-Authenticate"] = 'Bearer realm="deltaforge"'
    return answer
