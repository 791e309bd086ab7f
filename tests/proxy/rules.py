"""What tests want done to certain requests and answers of Kafka.

    rule = proxy.hold_request(Api.EndTxn)
    ...
    rule.wait_hit()          # one is held now
    rule.release()           # it goes on, and later ones are left alone

Rules may be shared by several proxies: they are looked at from proxy threads and from the test's.
"""

from __future__ import annotations

import threading
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.proxy.frames import Api, Request

WAIT_S = 30.0


class Action(Enum):
    """What a rule does to what it matches."""

    HOLD_REQUEST = "hold request"
    DROP_REQUEST = "drop request"
    DUPLICATE_REQUEST = "duplicate request"
    HOLD_RESPONSE = "hold response"
    DROP_RESPONSE = "drop response"
    ANSWER = "answer"
    WATCH = "watch"


class Gate:
    """A word on one frame, spoken now or later."""

    def __init__(self, *, dropped: bool = False) -> None:
        self.decided = self.dropped = dropped

    def open(self) -> None:
        """Let it go on."""
        self.decided = True

    def drop(self) -> None:
        """It never arrives."""
        self.decided = self.dropped = True


class Rule:
    """One wish: an action, the requests it concerns, and what came of it."""

    def __init__(
        self,
        action: Action,
        api: Api,
        nth: int | None,
        where: Callable[[Request], bool] | None,
        bell: Callable[[], None],
        code: int = 0,
        *,
        done: bool = True,
    ) -> None:
        """Made by a proxy's methods.

        Args:
          nth: which match to act on, from 1; None = every one.
          where: which requests of the api match.
          bell: tells the proxies that something was decided.
          code: of the error to answer with.
          done: whether the broker is asked as well, before it is answered in its name.
        """
        self.action, self.api, self.code, self.done = action, api, code, done
        self._nth, self._where, self._bell = nth, where, bell
        self._news = threading.Condition()
        self._held: list[Gate] = []
        self._copies: list[Callable[[], None]] = []
        self._over = False
        self.matches = 0
        """Requests that it would concern, acted on or not."""
        self.hits = 0
        """Frames acted on."""
        self.answers: list[bytes] = []
        """What the server answered to requests that were acted on, delivered or not."""
        self.requests: list[Request] = []
        """Requests acted on."""

    # ---- for proxies

    def takes(self, request: Request) -> bool:
        """Count a request; whether it is to be acted on."""
        if request.api_key != self.api or (self._where is not None and not self._where(request)):
            return False
        with self._news:
            if self._over:
                return False
            self.matches += 1
            if self._nth is not None and self.matches != self._nth:
                return False
            self.requests.append(request)
            return True

    def hit(self, copy: Callable[[], None] | None = None) -> Gate | None:
        """A frame is acted on now. Returns what it has to wait for, if it is to be held or dropped."""
        with self._news:
            self.hits += 1
            self._news.notify_all()
            if copy is not None:
                self._copies.append(copy)
            if self._over:
                return None
            if self.action in (Action.DROP_REQUEST, Action.DROP_RESPONSE):
                return Gate(dropped=True)
            if self.action not in (Action.HOLD_REQUEST, Action.HOLD_RESPONSE):
                return None
            self._held.append(Gate())
            return self._held[-1]

    def answered(self, frame: bytes) -> None:
        """The server's answer to a request that was acted on."""
        with self._news:
            self.answers.append(frame)
            self._news.notify_all()

    # ---- for tests

    def wait_hit(self, count: int = 1, seconds: float = WAIT_S) -> None:
        """Block until so many frames were acted on. Raises TimeoutError."""
        self._wait(lambda: self.hits >= count, seconds, f"{count} hits")

    def wait_answered(self, count: int = 1, seconds: float = WAIT_S) -> None:
        """Block until the server has answered so many of them. Raises TimeoutError."""
        self._wait(lambda: len(self.answers) >= count, seconds, f"{count} answers")

    def release(self) -> None:
        """Let what is held go on, send what was copied, and match no more."""
        self._end(Gate.open)

    def discard(self) -> None:
        """What is held never arrives, what was copied is forgotten; match no more."""
        self.forget_copies()
        self._end(Gate.drop)

    def forget_copies(self) -> None:
        """What was copied is never sent."""
        with self._news:
            self._copies.clear()

    def _end(self, act: Callable[[Gate], None]) -> None:
        with self._news:
            self._over = True
            held, copies = self._held, self._copies
            self._held, self._copies = [], []
        for gate in held:
            act(gate)
        for send in copies:
            send()
        self._bell()

    def _wait(self, reached: Callable[[], bool], seconds: float, what: str) -> None:
        with self._news:
            if not self._news.wait_for(reached, seconds):
                raise TimeoutError(f"{self}: not {what} after {seconds} s")

    def __str__(self) -> str:
        return (
            f"{self.action.value} {self.api.name}: {self.matches} matches, {self.hits} hits, "
            f"{len(self.answers)} answers"
        )
