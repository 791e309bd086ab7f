"""Prints docs/reference/http-api.md from the structs; called as `python -m deltaforge.admin.manual`."""

from __future__ import annotations

from typing import Final

import msgspec

from deltaforge.admin import server
from deltaforge.admin.bodies import ErrorBody, HealthBody, PipelineSummary, ReadyBody
from deltaforge.status import (
    PIPELINE_STATES,
    ActorView,
    BudgetView,
    ChannelView,
    LagView,
    PipelineView,
    PositionsView,
    RatesView,
    SinkView,
    SlotView,
    View,
)

_HEAD: Final = """\
# HTTP API

Printed from the code by `python -m deltaforge.admin.manual`; a test holds it.

The process serves it on `127.0.0.1:8080`, or where `--api-addr HOST:PORT` says. It is read-only.

| request | answer |
|---|---|
| `GET /health` | 200 while the process can work or wait, 503 when no pipeline is left: [HealthBody](#healthbody) |
| `GET /ready` | 200 when every pipeline works or stands by, else 503: [ReadyBody](#readybody) |
| `GET /metrics` | the metrics in Prometheus' text format, see [Observability](../observability.md) |
| `GET /pipelines` | a list of [PipelineSummary](#pipelinesummary) |
| `GET /pipelines/{name}` | [PipelineView](#pipelineview), or 404 |
| `GET /openapi.json` | this page as an OpenAPI 3.1 document, for programs |

Everything but `/metrics` is JSON. A request that fails gets an [ErrorBody](#errorbody): 401 without the token, 404, 405
for other methods than GET, HEAD and OPTIONS, 413 for a request with a body, 421 for a Host header that is not this
machine (on loopback), 500 for an error of ours, of which only the log tells more. What is no good HTTP gets 400, 431,
501 or 505, without a body, and the connection ends. HTTP/1.1 is spoken, and 1.0; no upgrade to anything else is heard.

## Token

With `DELTAFORGE_API_TOKEN` set, requests carry `Authorization: Bearer TOKEN`. Without it `/health`, `/ready` and
`/metrics` still answer, with the state word alone; the rest is 401. An address other than loopback is refused at the
start (exit code 2) unless the variable is set. The server speaks plain HTTP: put a TLS proxy in front of it.

## Limits

- {connections} connections at once. When all are taken, one that has had no request in hand for {patience:g} seconds,
  or whose client does not read its answer, is closed for who comes, the longest first, and answers end their
  connections. When all are at work, who comes is closed.
- A connection lives {life:g} seconds at most.
- Headers have to be complete within {idle} seconds and {header:g} KiB.
- A client that does not read its answer for {send:g} seconds is dropped.
- {requests} requests and {arrivals} connections a second in the long run, of all clients together, because pipelines
  share the processor with this server. After a pause {burst} requests and {crowd} connections come through at once.
  Whoever comes faster waits. A probe or a scraper never notices.

## Pipeline states

| state | meaning |
|---|---|
"""

_LIMITS: Final = {
    "connections": server.MAX_CONNECTIONS,
    "patience": server.PATIENCE_S,
    "life": server.CONNECTION_LIFE_S,
    "idle": server.IDLE_S,
    "header": server.HEADER_BYTES / 1024,
    "send": server.SEND_WITHIN_S,
    "requests": server.REQUESTS_PER_S,
    "burst": server.REQUESTS_AT_ONCE,
    "arrivals": server.CONNECTIONS_PER_S,
    "crowd": server.CONNECTIONS_AT_ONCE,
}
_MEANINGS: Final = {
    "starting": "connecting, reading the checkpoint, or waiting for a server on the way up",
    "running": "changes flow, or would if there were any",
    "standby": "another instance holds the slot; this one takes over when it is free",
    "blocked": "somebody has to change something outside; goes on by itself once that is done",
    "refused": "going on would lose or repeat data; parked, nothing has been moved",
    "failed": "crashed more often than allowed, or its file is wrong; parked",
    "stopping": "draining on request",
    "stopped": "drained, or ended",
}

_STRUCTS: Final[tuple[type[View], ...]] = (
    HealthBody, ReadyBody, PipelineSummary, PipelineView, PositionsView, LagView, RatesView, ActorView, ChannelView,
    BudgetView, SinkView, SlotView, ErrorBody,
)  # fmt: skip


def page() -> str:
    """The whole page."""
    states = "".join(f"| `{state}` | {_MEANINGS[state]} |\n" for state in PIPELINE_STATES)
    return _HEAD.format(**_LIMITS, name="{name}") + states + "".join(_section(struct) for struct in _STRUCTS)


def _section(struct: type[View]) -> str:
    intro = " ".join((struct.__doc__ or "").split())
    return f"\n## {struct.__name__}\n\n{intro}\n\n| field | type | meaning |\n|---|---|---|\n" + "".join(_rows(struct))


def _rows(struct: type[View]) -> list[str]:
    info = msgspec.inspect.type_info(struct)
    assert isinstance(info, msgspec.inspect.StructType)
    return [f"| `{field.encode_name}` | {_type(field.type)} | {_meaning(field.type)} |\n" for field in info.fields]


def _meaning(type_: msgspec.inspect.Type) -> str:
    schema = type_.extra_json_schema if isinstance(type_, msgspec.inspect.Metadata) else None
    return str((schema or {}).get("description", ""))


def _type(type_: msgspec.inspect.Type) -> str:
    inspect = msgspec.inspect
    match type_:
        case inspect.Metadata():
            return _type(type_.type)
        case inspect.UnionType():
            return " or ".join(_type(member) for member in type_.types)
        case inspect.StructType():
            return f"[{type_.cls.__name__}](#{type_.cls.__name__.lower()})"
        case inspect.VarTupleType():
            return f"list of {_type(type_.item_type)}"
        case inspect.LiteralType() | inspect.StrType():
            return "text"
        case inspect.DateTimeType():
            return "time (RFC 3339)"
        case inspect.NoneType():
            return "null"
        case _:
            return {inspect.IntType: "integer", inspect.FloatType: "number", inspect.BoolType: "true or false"}[
                type(type_)
            ]


if __name__ == "__main__":
    print(page(), end="")
