"""What can go wrong with the demo."""

from __future__ import annotations

from deltaforge.embedded.errors import EmbeddedError


class DemoFailed(EmbeddedError):
    """The demo could not show what it is there to show."""
