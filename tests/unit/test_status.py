"""What the process says about itself: descriptions, the manual, and the two verdicts."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from deltaforge import status
from deltaforge.admin import bodies, manual
from deltaforge.status import PIPELINE_STATES, PipelineView, SinkView, View, judge_health, judge_ready

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "http-api.md"


def _views() -> list[type[View]]:
    return [
        found
        for module in (status, bodies)
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, View) and found.__module__ == module.__name__
    ]


@pytest.mark.parametrize("view", _views(), ids=lambda view: view.__name__)
def test_every_field_that_the_api_shows_is_described(view: type[View]) -> None:
    """Guards against a JSON field that nobody can look up."""
    info = msgspec.inspect.type_info(view)
    assert isinstance(info, msgspec.inspect.StructType)

    for field in info.fields:
        described = isinstance(field.type, msgspec.inspect.Metadata) and field.type.extra_json_schema
        assert described, f"{view.__name__}.{field.name}"


def test_the_manual_is_what_the_structs_say() -> None:
    """Guards against a field that was renamed in the code only."""
    assert PAGE.read_text() == manual.page(), "python -m deltaforge.admin.manual > docs/reference/http-api.md"


@pytest.mark.parametrize("view", [PipelineView, *manual._STRUCTS], ids=lambda view: view.__name__)
def test_the_manual_has_every_struct_that_an_answer_can_hold(view: type[View]) -> None:
    """Guards against a link to a table that is not on the page."""
    named = {found for line in PAGE.read_text().splitlines() if line.startswith("## ") for found in [line[3:]]}

    assert view.__name__ in named


@pytest.mark.parametrize("state", PIPELINE_STATES)
def test_one_pipeline_decides_health_and_readiness(state: str) -> None:
    """Guards against a process that is restarted for waiting, or sent traffic while it is parked."""
    views = (PipelineView(name="orders", state=state, detail="why"),)  # type: ignore[arg-type]

    health, ready = judge_health(views), judge_ready(views)

    assert health.ok == (state not in ("refused", "failed"))
    assert ready.ok == (state in ("running", "standby", "stopped"))
    assert all("orders" in line and "why" in line for line in (*health.problems, *ready.reasons))


def test_a_parked_pipeline_beside_a_working_one_degrades_health_only() -> None:
    """Guards against a restart of the whole process for one pipeline's sake, and against silence about it."""
    views = (PipelineView(name="a", state="running"), PipelineView(name="b", state="refused", detail="gap"))

    assert (judge_health(views).ok, judge_health(views).word) == (True, "degraded")
    assert judge_health(views).problems == ("pipeline b is refused: gap",)
    assert judge_ready(views).word == "not ready"


def test_a_start_that_waits_for_a_server_is_named_by_health() -> None:
    """Guards against a process that calls itself ok while its database is away, and cries over every normal start."""
    away = PipelineView(name="a", state="starting", detail="reader is waiting: connection refused")
    fresh = PipelineView(name="b", state="starting")

    assert judge_health((away, fresh)).word == "degraded"
    assert judge_health((away, fresh)).problems == ("pipeline a is starting: reader is waiting: connection refused",)
    assert judge_health((fresh,)).word == "ok"


def test_a_sink_that_the_others_go_on_without_is_named_by_health() -> None:
    """Guards against a sink that gets nothing any more while everything looks well."""
    left = SinkView(id="spare", type="kafka", state="detached", detail="it is behind by its whole byte budget")
    view = PipelineView(name="a", state="running", sinks=(SinkView(id="main", type="kafka", state="running"), left))

    assert judge_health((view,)).word == "degraded"
    assert judge_health((view,)).problems == (
        "pipeline a: sink spare is detached: it is behind by its whole byte budget",
    )
    assert judge_ready((view,)).ok


def test_a_process_without_pipelines_is_healthy_but_not_ready() -> None:
    """Guards against an all() over nothing."""
    assert judge_health(()).word == "ok"
    assert not judge_ready(()).ok
