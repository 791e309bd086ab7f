"""The OpenAPI document says what the routes and the structs are."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from deltaforge import __version__
from deltaforge.admin import bodies, openapi
from deltaforge.admin.app import build_app
from deltaforge.admin.guard import Guard
from deltaforge.admin.pace import Pace
from deltaforge.status import PipelineView, View, judge_health, judge_ready
from tests.support.admin import RUNNING, Fixed

BOTH = pytest.mark.parametrize("token", [True, False], ids=["with a token", "without"])


def paths(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = document["paths"]
    assert isinstance(found, dict)
    return found


@BOTH
def test_every_route_is_in_it_and_nothing_else(token: bool) -> None:
    """Guards against a route that nobody can look up, and a described one that is not there."""
    app = build_app(Fixed(), Guard("127.0.0.1", "secret" if token else None), Pace(1, 1))
    served = {
        rule.rule.replace("<", "{").replace(">", "}"): {str(method).lower() for method in rule.methods or ()}
        for rule in app.url_map.iter_rules()
    }

    assert {
        path: {*methods, "head", "options"} for path, methods in paths(openapi.document(token=token)).items()
    } == served


@BOTH
def test_what_shows_more_than_the_state_asks_for_the_token_where_there_is_one(token: bool) -> None:
    """Guards against a program that is told to send nothing and gets 401, or to send what it does not have."""
    document = openapi.document(token=token)

    must = {path for path, methods in paths(document).items() if {} not in methods["get"]["security"]}
    assert must == ({"/pipelines", "/pipelines/{name}", "/openapi.json"} if token else set())
    assert all(("401" in methods["get"]["responses"]) == (path in must) for path, methods in paths(document).items())
    assert ("securitySchemes" in document["components"]) is token


def _answers() -> list[View]:
    view = msgspec.structs.replace(RUNNING, since=datetime.now(UTC), detail="why")
    health, ready = judge_health((view,)), judge_ready((view,))
    return [
        *(bodies.HealthBody.of(health, full) for full in (True, False)),
        *(bodies.ReadyBody.of(ready, full) for full in (True, False)),
        bodies.PipelineSummary.of(view),
        view,
        PipelineView(name="new"),
        bodies.ErrorBody(error="no"),
    ]


@pytest.mark.parametrize("answer", _answers(), ids=lambda answer: type(answer).__name__)
def test_a_field_is_required_exactly_when_every_answer_has_it(answer: View) -> None:
    """Guards against a client that is told to expect what does not come, or to do without what always does."""
    schema = openapi.document(token=True)["components"]["schemas"][type(answer).__name__]
    sent = msgspec.json.decode(msgspec.json.encode(answer))

    assert set(schema["required"]) <= sent.keys() <= set(schema["properties"])
    assert sent.keys() - set(schema["required"]) <= {"problems", "reasons"}


def test_everything_a_schema_refers_to_is_there_and_described() -> None:
    """Guards against a document that tools cannot read."""
    text = openapi.encoded(token=True).decode()
    document = msgspec.json.decode(text)

    assert document["info"]["version"] == __version__
    for name in {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        schema = document["components"]["schemas"][name]
        assert schema["description"]
        assert all(field.get("description") for field in schema["properties"].values()), name
    assert document["components"]["schemas"]["PipelineView"]["properties"]["since"]["anyOf"][0]["format"] == "date-time"
