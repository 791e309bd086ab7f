"""A value of which only the latest matters: the backward edge of a pipeline, never a queue.

A bounded cycle of channels can deadlock; a cell cannot, because writing never waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import trio

from .actor import waiting_here

if TYPE_CHECKING:
    from collections.abc import Callable


class Ordered(Protocol):
    """Anything that knows whether it is greater than another of its kind."""

    def __gt__(self, other: Any, /) -> bool: ...  # noqa: ANN401 - its own kind, which a Protocol cannot say


T = TypeVar("T")
C = TypeVar("C", bound=Ordered)


class Cell(Generic[T]):
    """One value, its version (one more for every write), and who waits for it."""

    def __init__(self, initial: T, *, name: str = "") -> None:
        self._value = initial
        self._version = 0
        self._written = trio.Event()
        self._name = name or "a value"

    @property
    def value(self) -> T:
        """The latest value."""
        return self._value

    @property
    def version(self) -> int:
        """How often it was written."""
        return self._version

    def set(self, value: T) -> None:
        """Write, also when the value is the same; wakes everybody who waits."""
        self._value = value
        self._version += 1
        written, self._written = self._written, trio.Event()
        written.set()

    def raise_to(self: Cell[C], value: C) -> bool:
        """Write only a greater value; says whether it was."""
        if not value > self._value:
            return False
        self.set(value)
        return True

    async def wait(self, predicate: Callable[[T], bool]) -> T:
        """Wait until the latest value satisfies the predicate, and return it.

        Values that were overwritten before this task ran are not seen. Cancellation: nothing happened.
        """
        await trio.lowlevel.checkpoint()
        while not predicate(self._value):
            await self._next()
        return self._value

    async def changed(self, after_version: int) -> int:
        """Wait until the version is beyond `after_version`, and return it. Cancellation: nothing happened."""
        await trio.lowlevel.checkpoint()
        while self._version <= after_version:
            await self._next()
        return self._version

    async def _next(self) -> None:
        with waiting_here(self._name):
            await self._written.wait()
