"""The JSON bodies of the admin HTTP, beside the pictures of `status`. The manual is printed from both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from deltaforge.status import LagView, PipelineState, RatesView, Time, View

if TYPE_CHECKING:
    from deltaforge.status import Health, PipelineView, Ready


def _doc(description: str) -> msgspec.Meta:
    return msgspec.Meta(description=description)


class HealthBody(View, frozen=True, omit_defaults=True):
    """Answer of /health."""

    state: Annotated[
        Literal["ok", "degraded", "failed"], _doc("`ok`; `degraded`: works or waits, but see `problems`; or `failed`.")
    ]
    problems: Annotated[
        tuple[str, ...] | msgspec.UnsetType, _doc("What is wrong, one line each. Absent for callers without the token.")
    ] = msgspec.UNSET

    @classmethod
    def of(cls, health: Health, full: bool) -> HealthBody:
        """The body for a caller who may see everything (`full`) or the state word only."""
        return cls(state=health.word, problems=health.problems if full else msgspec.UNSET)


class ReadyBody(View, frozen=True, omit_defaults=True):
    """Answer of /ready."""

    state: Annotated[Literal["ready", "not ready"], _doc("`ready` when every pipeline works or stands by.")]
    reasons: Annotated[
        tuple[str, ...] | msgspec.UnsetType, _doc("Why not, one line each. Absent for callers without the token.")
    ] = msgspec.UNSET

    @classmethod
    def of(cls, ready: Ready, full: bool) -> ReadyBody:
        """The body for a caller who may see everything (`full`) or the state word only."""
        return cls(state=ready.word, reasons=ready.reasons if full else msgspec.UNSET)


class PipelineSummary(View, frozen=True):
    """One entry of /pipelines; /pipelines/{name} has the rest."""

    name: Annotated[str, _doc("`metadata.name` of the configuration.")]
    tenant: Annotated[str, _doc("`metadata.tenant` of the configuration; may be empty.")]
    state: Annotated[PipelineState, _doc("How it is; see Pipeline states.")]
    since: Annotated[Time | None, _doc("When it came into this state (UTC).")]
    detail: Annotated[str, _doc("Why it is in this state and what to do about it; one line, may be empty.")]
    lag: Annotated[LagView, _doc("How far behind its slowest needed sink is.")]
    rates: Annotated[RatesView, _doc("How fast it goes.")]

    @classmethod
    def of(cls, view: PipelineView) -> PipelineSummary:
        """The summary of a full picture."""
        return cls(**{name: getattr(view, name) for name in cls.__struct_fields__})


class ErrorBody(View, frozen=True):
    """Answer to every request that fails."""

    error: Annotated[str, _doc("What is wrong with the request, in one line.")]
    hint: Annotated[str, _doc("What to do about it; may be empty.")] = ""
