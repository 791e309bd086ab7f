"""Which sinks the commit policy can do without.

Rule 1: whoever delivers right now counts when another sink is left behind: else nobody might deliver.
Rule 2: whoever has not parked itself counts when another sink parks itself for good: one that is away, or left behind
        for an epoch, comes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltaforge.checkpoint.policy import enough

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from deltaforge.config.schema import CommitPolicy


class Sparing:
    """The commit policy, asked about single sinks by their ids.

    Args:
      required: every sink, and whether its configuration says so.
      delivers: whether a sink makes rows durable in this epoch.
      parked: whether a sink has parked itself.
    """

    def __init__(
        self,
        policy: CommitPolicy,
        required: Mapping[str, bool],
        delivers: Callable[[str], bool],
        parked: Callable[[str], bool],
    ) -> None:
        self._policy, self._required, self._delivers, self._parked = policy, required, delivers, parked

    def needs(self, sink: str) -> bool:
        """Whether the policy waits for this very sink."""
        mode = self._policy.mode
        return mode == "all" or (mode == "required" and self._required[sink])

    def enough(self, sinks: Collection[str]) -> bool:
        """Whether the policy is content with these sinks alone."""
        return enough(self._policy.mode, self._policy.quorum, self._required, sinks)

    def dispensable(self, sink: str) -> bool:
        """Whether a sink may be left behind just now."""
        return self._without(sink, self._delivers)

    def spared(self, sink: str) -> bool:
        """Whether a sink may park itself for good."""
        return self._without(sink, lambda other: not self._parked(other))

    def _without(self, sink: str, counts: Callable[[str], bool]) -> bool:
        if self._policy.mode != "quorum":
            return not self.needs(sink) and any(map(self.needs, self._required))
        return self.enough([other for other in self._required if other != sink and counts(other)])
