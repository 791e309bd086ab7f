"""A proxy before one Kafka broker that knows its requests and obeys rules."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import trio

from deltaforge.embedded.ports import HOST
from tests.proxy.answers import error_answer, stand_in
from tests.proxy.faults import TO_SERVER, Direction
from tests.proxy.frames import Frames, correlation_id, request
from tests.proxy.proxy import Proxy
from tests.proxy.queues import Item
from tests.proxy.rules import Action, Gate, Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tests.proxy.frames import Api, Request
    from tests.proxy.lane import Connection, Cutter

    Which = Callable[[Request], bool] | None

_COPY_S = 30.0
_ON_RESPONSE = (Action.HOLD_RESPONSE, Action.DROP_RESPONSE)


class RuleBook:
    """Rules as tests make them, for one proxy or for all of a cluster."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []
        self._bells: list[Callable[[], None]] = []

    def obeyed_by(self, bell: Callable[[], None]) -> None:
        """Another proxy obeys them; `bell` makes it look at what was decided."""
        self._bells.append(bell)

    def rule(
        self, action: Action, api: Api, nth: int | None, where: Which, code: int = 0, *, done: bool = True
    ) -> Rule:
        """Make one and keep it."""
        made = Rule(action, api, nth, where, self._ring, code, done=done)
        self._rules = [*self._rules, made]
        return made

    def matching(self, request: Request) -> list[Rule]:
        """The rules that take a request: all that watch, and of the others the first."""
        found: list[Rule] = []
        acted = False
        for rule in self._rules:
            watches = rule.action is Action.WATCH
            if (watches or not acted) and rule.takes(request):
                acted = acted or not watches
                found.append(rule)
        return found

    def clear(self) -> None:
        """Let go what is held and forget all rules; copies that were not sent never are."""
        rules, self._rules = self._rules, []
        for rule in rules:
            rule.forget_copies()
            rule.release()

    def _ring(self) -> None:
        for bell in self._bells:
            bell()


class Rules:
    """The methods by which tests make rules. `nth` counts matches from 1; None = every one."""

    def __init__(self, book: RuleBook) -> None:
        self.book = book

    def hold_request(self, api: Api, nth: int | None = 1, where: Which = None) -> Rule:
        """Keep a request, and all that its connection brings behind it, until `release`, whatever its client does."""
        return self.book.rule(Action.HOLD_REQUEST, api, nth, where)

    def drop_request(self, api: Api, nth: int | None = 1, where: Which = None) -> Rule:
        """The broker never sees it; its client waits for an answer."""
        return self.book.rule(Action.DROP_REQUEST, api, nth, where)

    def duplicate_request(self, api: Api, nth: int | None = 1, where: Which = None) -> Rule:
        """Let it pass, and send the same bytes again at `release`; the second answer reaches nobody but the rule."""
        return self.book.rule(Action.DUPLICATE_REQUEST, api, nth, where)

    def hold_response(self, api: Api, nth: int | None = 1, where: Which = None) -> Rule:
        """The broker does what it is asked; its answer waits for `release`."""
        return self.book.rule(Action.HOLD_RESPONSE, api, nth, where)

    def drop_response(self, api: Api, nth: int | None = 1, where: Which = None) -> Rule:
        """The broker does what it is asked; its answer is lost."""
        return self.book.rule(Action.DROP_RESPONSE, api, nth, where)

    def answer_with(self, api: Api, code: int, nth: int | None = 1, where: Which = None, *, done: bool) -> Rule:
        """Answer in the broker's name with an error code.

        Args:
          done: whether the broker gets the request all the same; its own answer is lost. Otherwise it never sees it.
        """
        return self.book.rule(Action.ANSWER, api, nth, where, code, done=done)

    def watch(self, api: Api, where: Which = None) -> Rule:
        """Do nothing but count requests and keep their answers."""
        return self.book.rule(Action.WATCH, api, None, where)


class KafkaProxy(Proxy, Rules):
    """Forwards to one broker, which has to advertise this proxy's address, and to be spoken to without TLS."""

    def __init__(
        self, host: str, port: int, *, listen_host: str = HOST, listen_port: int = 0, book: RuleBook | None = None
    ) -> None:
        """As `Proxy`; with a `book` it obeys rules that others obey too."""
        Proxy.__init__(self, host, port, listen_host=listen_host, listen_port=listen_port)
        Rules.__init__(self, book or RuleBook())
        self._pairs: dict[int, _Pair] = {}
        self.seen: Counter[int] = Counter()
        """Requests of each api key so far."""
        self.book.obeyed_by(self._look)

    def _look(self) -> None:
        if self.running:
            self.command(lambda: None)

    def heal(self) -> None:
        """End all faults, let go what is held, forget all rules."""
        self.book.clear()
        super().heal()

    def cutter(self, connection: Connection, direction: Direction) -> Cutter:
        """Frames; both directions of a connection know of each other's."""
        if direction is TO_SERVER:
            pair = self._pairs[connection.number] = _Pair(self, connection)
            return pair.requests
        # Asked for second: from here on the lanes alone know of each other.
        return self._pairs.pop(connection.number).answers

    def send_again(self, rule: Rule, frame: bytes) -> None:
        """Send a copy of a request over a connection of its own, and keep the answer for the rule alone."""
        self.command(lambda: self._nursery.start_soon(self._copy, rule, frame))

    async def _copy(self, rule: Rule, frame: bytes) -> None:
        with trio.move_on_after(_COPY_S):
            async with await trio.open_tcp_stream(*self._address) as stream:
                await stream.send_all(frame)
                frames = Frames()
                while data := await stream.receive_some():
                    for answer in frames.feed(data):
                        rule.answered(answer)
                        return


class _Pair:
    """The two directions of one connection."""

    def __init__(self, proxy: KafkaProxy, connection: Connection) -> None:
        self._proxy, self._connection = proxy, connection
        self._open: dict[int, tuple[Request, list[Rule]]] = {}
        self.requests = _FrameCutter(self._on_request)
        self.answers = _FrameCutter(self._on_answer)

    def _on_request(self, frame: bytes) -> tuple[bytes, Gate | None]:
        found = request(frame, self._connection.number)
        self._proxy.seen[found.api_key] += 1
        rules = self._proxy.book.matching(found)
        if rules:
            self._open[found.correlation_id] = found, rules
        if any(rule.action is Action.ANSWER and not rule.done for rule in rules):
            frame = stand_in(found)
        gates = [self._act(rule, frame) for rule in rules if rule.action not in _ON_RESPONSE]
        return frame, next((gate for gate in gates if gate is not None), None)

    def _act(self, rule: Rule, frame: bytes) -> Gate | None:
        if rule.action is Action.DUPLICATE_REQUEST:
            return rule.hit(lambda: self._proxy.send_again(rule, frame))
        return rule.hit()

    def _on_answer(self, frame: bytes) -> tuple[bytes, Gate | None]:
        gate = None
        found, rules = self._open.pop(correlation_id(frame), (None, ()))
        for rule in rules:
            # A copy has an answer of its own.
            if rule.action is not Action.DUPLICATE_REQUEST:
                rule.answered(frame)
            if rule.action is Action.ANSWER and found is not None:
                frame = error_answer(found, rule.code)
            if rule.action in _ON_RESPONSE:
                gate = rule.hit()
        return frame, gate


class _FrameCutter:
    """A direction's bytes as frames, each as a rule would have it and with the gate that a rule sets before it."""

    def __init__(self, judge: Callable[[bytes], tuple[bytes, Gate | None]]) -> None:
        self._frames = Frames()
        self._judge = judge

    def feed(self, data: bytes, now: float) -> Iterable[Item]:
        """What is complete. Raises NotKafka."""
        return self._items(self._frames.feed(data), now)

    def _items(self, frames: Sequence[bytes], now: float) -> Iterable[Item]:
        for frame in frames:
            data, gate = self._judge(frame)
            yield Item(data, now, gate=gate)

    def rest(self, now: float) -> Iterable[Item]:
        """A piece of a frame goes on as it is."""
        left = self._frames.rest()
        return (Item(left, now),) if left else ()
