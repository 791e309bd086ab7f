"""Rules for Kafka's requests and answers, with frames over real sockets; `test_kafka.py` has the real broker."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from deltaforge.embedded.ports import HOST
from tests.proxy.faults import TO_SERVER
from tests.proxy.frames import Api, Frames, NotKafka, correlation_id
from tests.proxy.frames import request as parse
from tests.proxy.kafka import KafkaProxy, RuleBook
from tests.proxy.peers import Ends, is_silent, receive

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator


def asking(api: Api, correlation: int, body: bytes = b"") -> bytes:
    """A request's frame."""
    head = struct.pack("!hhi", api, 1, correlation)
    return struct.pack("!i", len(head) + len(body)) + head + body


def answering(correlation: int, body: bytes = b"ok") -> bytes:
    """An answer's frame."""
    return struct.pack("!ii", 4 + len(body), correlation) + body


@dataclass
class Conversation:
    """A client and a broker with a proxy between them."""

    ends: Ends
    proxy: KafkaProxy
    client: socket.socket
    broker: socket.socket

    def arrives(self, frame: bytes) -> None:
        """The broker gets exactly this next. Raises AssertionError."""
        assert receive(self.broker, len(frame)) == frame

    def is_answered(self, frame: bytes) -> None:
        """The client gets exactly this next. Raises AssertionError."""
        assert receive(self.client, len(frame)) == frame

    def passes(self, api: Api, correlation: int) -> None:
        """A request and its answer get through."""
        self.client.sendall(asking(api, correlation))
        self.arrives(asking(api, correlation))
        self.broker.sendall(answering(correlation))
        self.is_answered(answering(correlation))


@pytest.fixture
def talk() -> Iterator[Conversation]:
    """One connection through a proxy that knows Kafka."""
    with Ends() as ends, KafkaProxy(HOST, ends.port) as proxy:
        yield Conversation(ends, proxy, *ends.pair(proxy))


def test_frames_are_found_whatever_pieces_they_come_in() -> None:
    """Guards against a rule that misses a request because it came in two pieces."""
    stream = b"".join(asking(api, n, bytes(n)) for n, api in enumerate(Api))
    for size in (1, 3, 7, 1000):
        frames = Frames()
        found = [frame for at in range(0, len(stream), size) for frame in frames.feed(stream[at : at + size])]
        assert [parse(frame, 1).api_key for frame in found] == list(Api)
        assert [correlation_id(b"...." + frame[8:]) for frame in found] == list(range(len(Api)))
        assert frames.rest() == b""


@pytest.mark.parametrize("size", [-1, 0, 3, 1 << 30])
def test_what_is_no_frame_is_said_to_be_none(size: int) -> None:
    """Guards against rules that wait for ever for requests on an encrypted listener."""
    with pytest.raises(NotKafka):
        Frames().feed(struct.pack("!i", size) + bytes(10))


def test_a_held_request_waits_with_all_that_comes_behind_it(talk: Conversation) -> None:
    """Guards against a request that overtakes one which is held: within a connection there is no such thing."""
    rule = talk.proxy.hold_request(Api.EndTxn)
    talk.passes(Api.Metadata, 1)
    talk.client.sendall(asking(Api.EndTxn, 2) + asking(Api.Metadata, 3))
    rule.wait_hit()
    assert is_silent(talk.broker)
    rule.release()
    talk.arrives(asking(Api.EndTxn, 2) + asking(Api.Metadata, 3))
    talk.broker.sendall(answering(2))
    rule.wait_answered()
    assert rule.answers == [answering(2)]
    talk.is_answered(answering(2))
    # AND the rule is over
    talk.passes(Api.EndTxn, 4)


def test_a_held_request_arrives_when_its_client_is_gone(talk: Conversation) -> None:
    """Guards the heart of the matter: a late request whose client has long sent it again elsewhere."""
    rule = talk.proxy.hold_request(Api.EndTxn)
    talk.client.sendall(asking(Api.EndTxn, 1))
    rule.wait_hit()
    talk.proxy.cut_client()
    assert talk.client.recv(1) == b""
    assert is_silent(talk.broker)
    again = Conversation(talk.ends, talk.proxy, *talk.ends.pair(talk.proxy))
    again.passes(Api.EndTxn, 1)
    rule.release()
    talk.arrives(asking(Api.EndTxn, 1))
    talk.broker.sendall(answering(1, b"late"))
    rule.wait_answered()
    assert rule.answers == [answering(1, b"late")]


def test_a_dropped_request_is_never_seen_and_the_next_one_is(talk: Conversation) -> None:
    """Guards against a drop that takes the connection along."""
    rule = talk.proxy.drop_request(Api.Produce)
    talk.client.sendall(asking(Api.Produce, 1))
    rule.wait_hit()
    talk.passes(Api.Produce, 2)


def test_a_held_answer_is_of_a_request_that_was_obeyed(talk: Conversation) -> None:
    """Guards against a held answer that is none, because the broker was never asked."""
    rule = talk.proxy.hold_response(Api.EndTxn)
    talk.client.sendall(asking(Api.EndTxn, 1) + asking(Api.Metadata, 2))
    talk.arrives(asking(Api.EndTxn, 1) + asking(Api.Metadata, 2))
    assert rule.hits == 0
    talk.broker.sendall(answering(1) + answering(2))
    rule.wait_hit()
    assert is_silent(talk.client)
    rule.release()
    talk.is_answered(answering(1) + answering(2))


def test_a_dropped_answer_is_lost_and_later_ones_come(talk: Conversation) -> None:
    """Guards against answers that are matched by their order instead of by their request."""
    rule = talk.proxy.drop_response(Api.EndTxn)
    talk.client.sendall(asking(Api.Metadata, 1) + asking(Api.EndTxn, 2) + asking(Api.Fetch, 3))
    receive(talk.broker, len(asking(Api.Metadata, 1)) * 3)
    talk.broker.sendall(answering(1) + answering(2) + answering(3))
    talk.is_answered(answering(1) + answering(3))
    rule.wait_answered()
    assert rule.answers == [answering(2)]


def test_a_copy_is_sent_when_told_and_its_answer_reaches_the_rule_alone(talk: Conversation) -> None:
    """Guards against a second answer that would confuse the client."""
    rule = talk.proxy.duplicate_request(Api.EndTxn)
    talk.passes(Api.EndTxn, 7)
    rule.wait_hit()
    assert is_silent(talk.broker)
    rule.release()
    copy = talk.ends.accept()
    assert receive(copy, len(asking(Api.EndTxn, 7))) == asking(Api.EndTxn, 7)
    copy.sendall(answering(7, b"twice"))
    rule.wait_answered()
    assert rule.answers == [answering(7, b"twice")]
    assert is_silent(talk.client)


@pytest.mark.parametrize(("nth", "acted"), [(1, [1]), (3, [3]), (None, [1, 2, 3, 4])])
def test_a_rule_acts_on_the_match_it_was_made_for(talk: Conversation, nth: int | None, acted: list[int]) -> None:
    """Guards against a fault that comes one request too early."""
    rule = talk.proxy.drop_request(Api.EndTxn, nth=nth)
    for correlation in (1, 2, 3, 4):
        talk.client.sendall(asking(Api.Metadata, 10 * correlation) + asking(Api.EndTxn, correlation))
    talk.client.sendall(asking(Api.Fetch, 99))
    came = Frames().feed(receive(talk.broker, len(asking(Api.Fetch, 0)) * (9 - len(acted))))
    ended = [parse(frame, 1).correlation_id for frame in came if parse(frame, 1).api_key == Api.EndTxn]
    assert ended == [correlation for correlation in (1, 2, 3, 4) if correlation not in acted]
    assert (rule.matches, rule.hits) == (4, len(acted))
    assert talk.proxy.seen[Api.EndTxn] == 4


def test_a_rule_that_was_released_matches_no_more(talk: Conversation) -> None:
    """Guards against a fault that comes back after its test was done with it."""
    rule = talk.proxy.hold_request(Api.EndTxn, nth=None)
    talk.client.sendall(asking(Api.EndTxn, 1))
    rule.wait_hit()
    rule.release()
    talk.arrives(asking(Api.EndTxn, 1))
    talk.passes(Api.EndTxn, 2)
    assert (rule.matches, rule.hits) == (1, 1)


def test_of_two_rules_for_one_request_the_older_acts_and_the_other_keeps_its_turn(talk: Conversation) -> None:
    """Guards against a request that is dropped because two rules were meant for two of them."""
    first, second = talk.proxy.hold_request(Api.EndTxn), talk.proxy.drop_request(Api.EndTxn)
    talk.client.sendall(asking(Api.EndTxn, 1))
    first.wait_hit()
    first.release()
    talk.arrives(asking(Api.EndTxn, 1))
    assert second.matches == 0
    talk.client.sendall(asking(Api.EndTxn, 2))
    second.wait_hit()
    talk.passes(Api.Metadata, 3)


def test_a_rule_can_be_for_some_requests_only(talk: Conversation) -> None:
    """Guards against a rule that hits the transactions of somebody else."""
    rule = talk.proxy.hold_request(Api.EndTxn, where=lambda request: b"ours" in request.frame)
    watch = talk.proxy.watch(Api.EndTxn)
    talk.passes(Api.EndTxn, 1)
    talk.client.sendall(asking(Api.EndTxn, 2, b"ours"))
    rule.wait_hit()
    assert is_silent(talk.broker)
    assert (rule.matches, watch.matches) == (1, 2)
    assert rule.requests[0].correlation_id == 2


def test_discarding_what_is_held_loses_it(talk: Conversation) -> None:
    """Guards against a discarded request that arrives all the same."""
    rule = talk.proxy.hold_request(Api.EndTxn)
    talk.client.sendall(asking(Api.EndTxn, 1) + asking(Api.Metadata, 2))
    rule.wait_hit()
    rule.discard()
    talk.arrives(asking(Api.Metadata, 2))


def test_heal_lets_everything_go_and_forgets_all_rules(talk: Conversation) -> None:
    """Guards against a rule that lives on into the next test."""
    held = talk.proxy.hold_request(Api.EndTxn, nth=None)
    copied = talk.proxy.duplicate_request(Api.Metadata)
    talk.passes(Api.Metadata, 1)
    copied.wait_hit()
    talk.client.sendall(asking(Api.EndTxn, 2))
    held.wait_hit()
    talk.proxy.black_hole([TO_SERVER])
    talk.proxy.heal()
    talk.arrives(asking(Api.EndTxn, 2))
    talk.passes(Api.EndTxn, 3)
    assert (held.hits, copied.hits, copied.answers) == (1, 1, [])


def test_a_hit_that_does_not_come_is_an_error_that_names_the_rule(talk: Conversation) -> None:
    """Guards against a fault test in which the fault never happened."""
    with pytest.raises(TimeoutError, match="hold request EndTxn: 0 matches, 0 hits"):
        talk.proxy.hold_request(Api.EndTxn).wait_hit(seconds=0.01)
    with pytest.raises(TimeoutError, match="0 answers"):
        talk.proxy.watch(Api.EndTxn).wait_answered(seconds=0.01)


def test_one_rule_is_obeyed_by_all_proxies_of_a_cluster() -> None:
    """Guards against a rule that misses its request because another node has become the coordinator."""
    book = RuleBook()
    with Ends() as ends, KafkaProxy(HOST, ends.port, book=book) as one, KafkaProxy(HOST, ends.port, book=book) as two:
        rule = one.hold_request(Api.EndTxn, nth=2)
        first, second = (Conversation(ends, proxy, *ends.pair(proxy)) for proxy in (one, two))
        first.passes(Api.EndTxn, 1)
        second.client.sendall(asking(Api.EndTxn, 1))
        rule.wait_hit()
        assert is_silent(second.broker)
        rule.release()
        second.arrives(asking(Api.EndTxn, 1))
