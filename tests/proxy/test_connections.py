"""What the proxy can do to connections as a whole."""

from __future__ import annotations

import socket

import pytest

from deltaforge.embedded.ports import HOST
from tests.proxy.faults import TO_SERVER
from tests.proxy.peers import Ends, is_silent, receive, talk
from tests.proxy.proxy import Proxy


def test_cut_ends_both_sides_in_good_order_and_new_connections_are_served(ends: Ends, proxy: Proxy) -> None:
    """Guards against a cut that one side does not notice."""
    client, server = ends.pair(proxy)
    talk(client, server)
    proxy.cut()
    assert client.recv(1) == b""
    assert server.recv(1) == b""
    proxy.wait_for(lambda s: s.open == 0)
    talk(*ends.pair(proxy))


def test_reset_resets_both_sides(ends: Ends, proxy: Proxy) -> None:
    """Guards against an RST that arrives as an orderly end."""
    client, server = ends.pair(proxy)
    talk(client, server)
    proxy.reset()
    for end in (client, server):
        with pytest.raises(ConnectionResetError):
            end.recv(1)


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_peer_that_resets_is_passed_on_as_a_reset(ends: Ends, proxy: Proxy, side: str) -> None:
    """Guards against a proxy that hides how a connection ended."""
    client, server = ends.pair(proxy)
    talk(client, server)
    one, other = (client, server) if side == "client" else (server, client)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    one.close()
    with pytest.raises(ConnectionResetError):
        other.recv(1)
    proxy.wait_for(lambda s: s.open == 0)


def test_only_some_connections_can_be_cut(ends: Ends, proxy: Proxy) -> None:
    """Guards against a fault that hits more than the test meant."""
    pairs = [ends.pair(proxy) for _ in range(3)]
    for client, server in pairs:
        talk(client, server)
    proxy.cut(where=lambda connection: connection.number == 2)
    assert pairs[1][0].recv(1) == b""
    talk(*pairs[0])
    talk(*pairs[2])


def test_what_a_cut_client_had_sent_still_arrives_when_it_is_let_go(ends: Ends, proxy: Proxy) -> None:
    """Guards against a late message that dies with the client that gave up on it."""
    client, server = ends.pair(proxy)
    talk(client, server)
    proxy.black_hole([TO_SERVER])
    client.sendall(b"late")
    proxy.wait_for(lambda s: s.to_server.received == 8)
    proxy.cut_client()
    assert client.recv(1) == b""
    assert is_silent(server)
    server.sendall(b"to nobody")
    proxy.heal()
    assert receive(server, 100) == b"late"


def test_hang_accepts_and_is_silent_until_it_is_lifted(ends: Ends, proxy: Proxy) -> None:
    """Guards against a server that accepts and never answers being a server that is not there."""
    old = ends.pair(proxy)
    proxy.hang()
    client = ends.connect(proxy)
    client.sendall(b"hello?")
    assert is_silent(client)
    assert ends.nobody_connects()
    talk(*old)
    proxy.heal()
    assert receive(ends.accept(), 6) == b"hello?"


def test_a_connection_that_hangs_can_be_cut(ends: Ends, proxy: Proxy) -> None:
    """Guards against connections that outlive the test."""
    proxy.hang()
    client = ends.connect(proxy)
    proxy.wait_for(lambda s: s.open == 1)
    proxy.cut()
    assert client.recv(1) == b""
    proxy.wait_for(lambda s: s.open == 0)


def test_refuse_refuses_new_connections_and_keeps_the_port(ends: Ends, proxy: Proxy) -> None:
    """Guards against a port that somebody else gets while it is meant to be refused."""
    old = ends.pair(proxy)
    for _ in range(2):
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            ends.connect(proxy)
        with socket.socket() as thief, pytest.raises(OSError, match="in use"):
            thief.bind((HOST, proxy.port))
        talk(*old)
        proxy.heal()
        talk(*ends.pair(proxy))


def test_a_server_that_is_away_ends_the_clients_connection(ends: Ends, proxy: Proxy) -> None:
    """Guards against clients that wait for a server to which there is no connection."""
    ends.listener.close()
    # The reset may be faster than connect's return.
    with pytest.raises(ConnectionResetError):
        ends.connect(proxy).recv(1)


def test_new_connections_follow_the_target(ends: Ends, proxy: Proxy) -> None:
    """Guards against a failover that moves connections which exist."""
    old = ends.pair(proxy)
    with Ends() as others:
        proxy.target(HOST, others.port)
        client = ends.connect(proxy)
        talk(client, others.accept())
        talk(*old)


def test_a_port_that_is_taken_is_an_error_at_once() -> None:
    """Guards against a proxy that stands nowhere."""
    with socket.create_server((HOST, 0)) as other, pytest.raises(OSError, match="in use"):
        Proxy(HOST, 1, listen_port=other.getsockname()[1])


def test_close_leaves_no_thread_and_no_port_behind(ends: Ends) -> None:
    """Guards against tests that get in each other's way."""
    with Proxy(HOST, ends.port) as proxy:
        client, server = ends.pair(proxy)
        proxy.black_hole()
        client.sendall(b"on its way")
    assert not proxy.running
    assert server.recv(1) == b""
    with socket.create_server((HOST, proxy.port)):
        pass


def test_what_is_waited_for_in_vain_is_an_error_with_the_numbers(proxy: Proxy) -> None:
    """Guards against a test that goes on as if the condition had come."""
    with pytest.raises(TimeoutError, match="accepted=0"):
        proxy.wait_for(lambda s: s.accepted > 0, seconds=0.01)
