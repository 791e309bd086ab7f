"""Each thing the proxy can do to bytes, with real sockets at both ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.proxy.faults import BOTH, TO_CLIENT, TO_SERVER, Flip
from tests.proxy.peers import Ends, is_silent, receive, talk

if TYPE_CHECKING:
    from tests.proxy.faults import Direction
    from tests.proxy.proxy import Proxy

LOTS = bytes(range(256)) * 4096
"""1 MiB."""


def test_without_a_fault_bytes_and_ends_pass_both_ways(ends: Ends, proxy: Proxy) -> None:
    """Guards against a proxy that is a fault of its own."""
    client, server = ends.pair(proxy)
    talk(client, server)
    server.sendall(LOTS)
    assert receive(client, len(LOTS)) == LOTS
    client.close()
    assert server.recv(1) == b""
    server.close()
    now = proxy.wait_for(lambda s: s.open == 0)
    assert (now.accepted, now.to_server.forwarded, now.to_client.forwarded) == (1, 4, 4 + len(LOTS))
    assert now.to_server.dropped == now.to_client.dropped == 0


def test_a_half_closed_connection_still_answers(ends: Ends, proxy: Proxy) -> None:
    """Guards against an end that is passed on as the end of both directions."""
    client, server = ends.pair(proxy)
    client.shutdown(1)
    assert server.recv(1) == b""
    server.sendall(b"late")
    assert receive(client, 4) == b"late"


def test_a_delay_holds_bytes_back_and_lifting_it_lets_them_go(
    ends: Ends, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards against a delay that is for new bytes only, or that is served to its end after it was lifted."""
    client, server = ends.pair(proxy)
    proxy.delay(50, [TO_SERVER])
    began = time.monotonic()
    client.sendall(b"slow")
    assert receive(server, 4) == b"slow"
    with capsys.disabled():
        print(f"\n50 ms of delay took {1000 * (time.monotonic() - began):.1f} ms")
    forever = proxy.delay(3_600_000, [TO_SERVER])
    client.sendall(b"hour")
    assert is_silent(server)
    server.sendall(b"back")
    assert receive(client, 4) == b"back"
    proxy.lift(forever)
    assert receive(server, 4) == b"hour"


def test_a_throttled_line_is_shared_and_lifting_it_frees_it(
    ends: Ends, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards against a rate that each connection has for itself, or that is kept after it was lifted."""
    pairs = [ends.pair(proxy) for _ in range(2)]
    proxy.throttle(200_000, [TO_CLIENT])
    began = time.monotonic()
    for _, server in pairs:
        server.sendall(bytes(20_000))
    for client, _ in pairs:
        assert receive(client, 20_000) == bytes(20_000)
    with capsys.disabled():
        print(f"\n2 x 20 kB at 200 kB/s took {1000 * (time.monotonic() - began):.0f} ms")
    proxy.heal()
    proxy.throttle(1, [TO_CLIENT])
    client, server = pairs[0]
    server.sendall(LOTS)
    proxy.wait_for(lambda s: s.to_client.received == 40_000 + len(LOTS))
    assert proxy.statistics().to_client.forwarded < 40_000 + 1000
    proxy.heal()
    assert receive(client, len(LOTS)) == LOTS


def test_chopped_bytes_come_in_pieces_and_in_order(ends: Ends, proxy: Proxy) -> None:
    """Guards against pieces that are lost, doubled or swapped where a reader gets less than a message at once."""
    client, server = ends.pair(proxy)
    # A throttle of one piece a tick keeps the kernel from putting the pieces together again.
    proxy.chop(3, [TO_SERVER])
    proxy.throttle(300, [TO_SERVER])
    client.sendall(b"0123456789")
    pieces: list[bytes] = []
    while len(b"".join(pieces)) < 10:
        pieces.append(server.recv(100))
    assert b"".join(pieces) == b"0123456789"
    assert len(pieces) >= 3


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("direction", BOTH)
def test_a_black_hole_takes_one_way_and_lets_the_other_pass(
    ends: Ends, proxy: Proxy, direction: Direction, *, keep: bool
) -> None:
    """Guards against a half-open connection that is none; against bytes that appear after a gap in their stream."""
    client, server = ends.pair(proxy)
    talk(client, server)
    sender, receiver = (client, server) if direction is TO_SERVER else (server, client)
    proxy.black_hole([direction], keep=keep)
    sender.sendall(b"lost?")
    assert is_silent(receiver)
    receiver.sendall(b"other way")
    assert receive(sender, 9) == b"other way"
    proxy.heal()
    sender.sendall(b"later")
    if keep:
        assert receive(receiver, 10) == b"lost?later"
    else:
        assert is_silent(receiver)
        assert getattr(proxy.statistics(), direction.name.lower()).dropped >= len(b"lost?")


def test_a_client_that_goes_away_behind_a_black_hole_is_not_missed_until_it_heals(ends: Ends, proxy: Proxy) -> None:
    """Guards against a partition through which the end of a connection still gets."""
    client, server = ends.pair(proxy)
    talk(client, server)
    proxy.black_hole()
    client.sendall(b"last words")
    client.close()
    assert is_silent(server)
    proxy.heal()
    assert receive(server, 100) == b"last words"


def test_a_black_hole_that_loses_bytes_swallows_the_end_as_well(ends: Ends, proxy: Proxy) -> None:
    """Guards against a gap in a stream that ends as if it were whole."""
    client, server = ends.pair(proxy)
    proxy.black_hole(keep=False)
    client.sendall(b"gone")
    client.close()
    proxy.wait_for(lambda s: s.to_server.dropped == 4)
    proxy.heal()
    assert is_silent(server)
    proxy.cut()
    assert server.recv(1) == b""


def test_a_stream_can_be_cut_off_after_so_many_bytes(ends: Ends, proxy: Proxy) -> None:
    """Guards against a server's answer of which a byte too much, or its end, gets through."""
    proxy.drop_after(5)
    client, server = ends.pair(proxy)
    client.sendall(b"request")
    assert receive(server, 7) == b"request"
    server.sendall(b"abc")
    server.sendall(b"defgh")
    assert receive(client, 5) == b"abcde"
    server.close()
    assert is_silent(client)
    assert proxy.statistics().to_client.dropped == 3


def test_a_stream_that_was_cut_off_stays_so_when_the_fault_is_lifted(ends: Ends, proxy: Proxy) -> None:
    """Guards against a gap in a stream, which TCP never delivers."""
    proxy.drop_after(2)
    client, server = ends.pair(proxy)
    server.sendall(b"abc")
    assert receive(client, 2) == b"ab"
    proxy.wait_for(lambda s: s.to_client.dropped == 1)
    proxy.heal()
    server.sendall(b"d")
    proxy.wait_for(lambda s: s.to_client.dropped == 2)
    assert is_silent(client)


def test_one_byte_can_be_damaged_wherever_it_comes(ends: Ends, proxy: Proxy) -> None:
    """Guards against an offset that counts from the piece instead of from the stream's beginning."""
    proxy.flip(5, [TO_CLIENT])
    client, server = ends.pair(proxy)
    server.sendall(b"aaa")
    assert receive(client, 3) == b"aaa"
    server.sendall(b"aaaa")
    assert receive(client, 4) == b"aa`a"
    assert proxy.statistics().to_client.flipped == 1


def test_random_damage_follows_from_its_seed(ends: Ends, proxy: Proxy) -> None:
    """Guards against a failure that cannot be made again."""
    proxy.flip_some(1000, seed=3, directions=[TO_SERVER])
    client, server = ends.pair(proxy)
    client.sendall(LOTS)
    arrived = receive(server, len(LOTS))
    damaged = [at for at, (a, b) in enumerate(zip(LOTS, arrived, strict=True)) if a != b]
    assert damaged == Flip(every=1000, seed=3).places(1, 0, len(LOTS))
    assert len(damaged) == proxy.statistics().to_server.flipped >= len(LOTS) // 1000
    # The same whatever pieces the stream comes in.
    pieces = [[at + place for place in Flip(every=1000, seed=3).places(1, at, 7)] for at in range(0, 7000, 7)]
    assert [place for piece in pieces for place in piece] == [place for place in damaged if place < 7000]


def test_a_fault_can_be_for_some_connections_only(ends: Ends, proxy: Proxy) -> None:
    """Guards against a replication stream that cannot be broken without the session beside it."""
    proxy.black_hole(where=lambda connection: connection.opening.startswith(b"stream"))
    first, first_server = ends.pair(proxy)
    second, second_server = ends.pair(proxy)
    talk(first, first_server)
    second.sendall(b"stream please")
    assert is_silent(second_server)
    talk(first, first_server)
