"""Small numbers for values, and answers that are remembered: states hold numbers, and equal states are found equal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

Value = TypeVar("Value")


class Interned(Generic[Value]):
    """Small numbers for equal values, from 1 on."""

    def __init__(self) -> None:
        self._values: list[Value] = []
        self._numbers: dict[Hashable, int] = {}

    def of(self, value: Value, key: Hashable = None) -> int:
        """The number of `value`; `key` stands for it where it cannot be hashed itself."""
        number = self._numbers.setdefault(value if key is None else key, len(self._values) + 1)
        if number > len(self._values):
            self._values.append(value)
        return number

    def __getitem__(self, number: int) -> Value:
        return self._values[number - 1]


class Memo:
    """Asks each question once."""

    def __init__(self) -> None:
        self._answers: dict[tuple[Hashable, ...], object] = {}

    def once(self, key: tuple[Hashable, ...], ask: Callable[[], Value]) -> Value:
        """The answer to `key`, from `ask` the first time."""
        if key not in self._answers:
            self._answers[key] = ask()
        return self._answers[key]  # type: ignore[return-value]
