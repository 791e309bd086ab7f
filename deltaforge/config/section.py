"""What sections of the pipeline file are made of: their base class, and the description of a field."""

from __future__ import annotations

from collections.abc import Callable, Mapping  # noqa: TC003 - msgspec reads the annotations of these classes
from typing import ClassVar

import msgspec

NOT_YET = "not available yet"

_META: Callable[..., msgspec.Meta] = msgspec.Meta


def doc(
    description: str,
    *,
    later: Mapping[str, str] | None = None,
    say: str = "",
    loose: bool = False,
    **bounds: int | str,
) -> msgspec.Meta:
    """Describe a field.

    Args:
      later: refused values and why.
      say: states in words what a pattern demands.
      loose: truth values and numbers may be written as text, words in any case.
    """
    extra = {"later": dict(later or {}), "say": say, "loose": loose}
    extra = {key: value for key, value in extra.items() if value}
    return _META(description=description, extra=extra or None, **bounds)


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all sections. `later` names fields that other versions of the format have and this one refuses."""

    later: ClassVar[Mapping[str, str]] = {}
