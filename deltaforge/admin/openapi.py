"""The OpenAPI document of the admin HTTP, made from the structs; served at /openapi.json.

Rule 1: it describes what this process does: where no token is set, none is asked for.
Rule 2: every field is in every answer, but for those that callers without the token do not get. More may come later.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec

from deltaforge import __version__
from deltaforge.admin.bodies import ErrorBody, HealthBody, PipelineSummary, ReadyBody
from deltaforge.status import PipelineView, View

_Security: TypeAlias = list[dict[str, list[str]]]
_SCHEMES: Final = {"token": {"type": "http", "scheme": "bearer", "description": "DELTAFORGE_API_TOKEN"}}
_NAME: Final = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "`metadata.name` of the pipeline; of a file that could not be loaded, its name without the ending.",
    "schema": {"type": "string", "minLength": 1},
    "example": "orders-to-kafka-prod",
}
_TEXT: Final = {"description": "Prometheus' text format", "content": {"text/plain": {"schema": {"type": "string"}}}}
_DOCUMENT: Final = {"description": "This document", "content": {"application/json": {"schema": {"type": "object"}}}}


def document(*, token: bool) -> dict[str, Any]:
    """The whole document; `token`: whether this process asks for one."""
    open_: _Security = [{}, {"token": []}] if token else [{}]
    closed: _Security = [{"token": []}] if token else [{}]
    whole = {
        "/health": _operation("health", "Whether the process can work or wait", open_, _verdict(HealthBody)),
        "/ready": _operation("ready", "Whether every pipeline works or stands by", open_, _verdict(ReadyBody)),
        "/metrics": _operation("metrics", "Metrics", open_, {"200": _TEXT}),
        "/pipelines": _operation("pipelines", "All pipelines", closed, {"200": _json(PipelineSummary, many=True)}),
        "/pipelines/{name}": _operation(
            "pipeline", "One pipeline", closed, {"200": _json(PipelineView), "404": _error("There is no such pipeline")}
        ),
        "/openapi.json": _operation("openapi", "This document", closed, {"200": _DOCUMENT}),
    }
    whole["/pipelines/{name}"]["get"]["parameters"] = [_NAME]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "deltaforge",
            "version": __version__,
            "summary": "What a running deltaforge says about itself. Read-only.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": whole,
        "components": {"schemas": _schemas(), **({"securitySchemes": _SCHEMES} if token else {})},
    }


def _operation(name: str, summary: str, security: _Security, answers: dict[str, Any]) -> dict[str, Any]:
    if {} not in security:
        unauthorized = {**_error("The token is missing or wrong"), "headers": {"WWW-Authenticate": _string("Bearer")}}
        answers = {**answers, "401": unauthorized}
    refused = {
        "405": {**_error("The method is none of GET, HEAD and OPTIONS"), "headers": {"Allow": _string("These")}},
        "413": _error("The request has a body"),
        "421": _error("On loopback: the Host header does not name this machine"),
        "default": _error("Anything else that fails"),
    }
    known = {"operationId": name, "summary": summary, "security": security, "responses": {**answers, **refused}}
    return {"get": known}


def _string(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}}


def _json(struct: type[View], *, many: bool = False, description: str = "") -> dict[str, Any]:
    schema = _reference(struct)
    listed = {"type": "array", "items": schema} if many else schema
    return {"description": description or struct.__doc__, "content": {"application/json": {"schema": listed}}}


def _verdict(struct: type[View]) -> dict[str, Any]:
    return {"200": _json(struct, description="Yes"), "503": _json(struct, description="No, and why")}


def _error(description: str) -> dict[str, Any]:
    return _json(ErrorBody, description=description)


def _reference(struct: type[View]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{struct.__name__}"}


def _schemas() -> dict[str, Any]:
    structs = (HealthBody, ReadyBody, PipelineSummary, PipelineView, ErrorBody)
    _, schemas = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    for struct in View.__subclasses__():
        if (schema := schemas.get(struct.__name__)) is None:
            continue
        fields = msgspec.structs.fields(struct)
        schema["required"] = [field.encode_name for field in fields if field.default is not msgspec.UNSET]
        for described in schema["properties"].values():
            # What the struct is made with, and nothing that an answer leaves out.
            described.pop("default", None)
    return schemas


def encoded(*, token: bool) -> bytes:
    """The document as it is served."""
    return msgspec.json.encode(document(token=token)) + b"\n"
