"""Free TCP ports on the loopback interface for servers that will be restarted on the same port.

A port out of the kernel's ephemeral range is a trap while its server is down: any outgoing connection of this machine
may be given it as source port, and a client that keeps connecting to it may at last connect to itself. So the ports
are taken from below that range, each checked by binding it.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

HOST = "127.0.0.1"
_LOWEST = 15_000
_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> list[int]:
    """So many different ports on which nothing listens now."""
    lowest, highest = usable()
    ports: set[int] = set()
    attempts = 0
    while len(ports) < count:
        attempts += 1
        # After many busy ports in a row the kernel's own choice is better than none.
        wanted = random.randrange(lowest, highest) if attempts < 200 * count else 0  # noqa: S311 - no secret
        with socket.socket() as probe:
            try:
                probe.bind((HOST, wanted))
            except OSError:
                continue
            ports.add(probe.getsockname()[1])
    return sorted(ports)


def accepts(port: int) -> bool:
    """Whether something accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0


def usable() -> tuple[int, int]:
    """The lowest port to choose from, and the first one above."""
    return _LOWEST, _below_ephemeral()


def _below_ephemeral() -> int:
    try:
        lowest_ephemeral = int(_RANGE_FILE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        lowest_ephemeral = 32_768
    return lowest_ephemeral if lowest_ephemeral > _LOWEST + 1000 else 32_768
