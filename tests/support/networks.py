"""Networks that nobody else sees: namespaces of the test's own, and in them a line that loses packets.

A socket belongs to the network in which it was made, a thread to the one in which it was started. So a proxy that is
made inside and started outside lets what runs inside reach a server outside, and one that is made outside and started
inside lets the test reach what runs inside.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import select
import socket
import struct
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Self

from tests.support.available import unable
from tests.support.mounts import require_namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator

NEAR, FAR = "10.77.0.1", "10.77.0.2"
"""Who listens at NEAR is reached over a lossy line by whoever in the same network connects to FAR."""

_CLONE_NEWNET: Final = 0x40000000
_TUN: Final = "/dev/net/tun"
_HERE: Final = "/proc/thread-self/ns/net"
_SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK, _TUNSETIFF = 0x8914, 0x8916, 0x891C, 0x400454CA
_IFF_UP_RUNNING, _IFF_TUN_PLAIN = 0x41, 0x1001
_LARGEST: Final = 65_536


class Network:
    """A namespace with a loopback device. It ends with the last process, thread and socket in it."""

    def __init__(self, *, ipv4: bool = True) -> None:
        """Make it. Skips the test where that is not allowed; fails in CI.

        Args:
          ipv4: whether the loopback device has an address of IPv4; it always has ::1.
        """
        require_namespaces("net", "nsenter")
        made: list[int] = []
        maker = threading.Thread(target=self._make, args=(ipv4, made))
        maker.start()
        maker.join()
        # The thread has told why, if there is none.
        (self._file,) = made

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be in it: sockets made and threads and processes started meanwhile, by this thread, belong to it."""
        outside = os.open(_HERE, os.O_RDONLY)
        try:
            _checked("setns", self._file, _CLONE_NEWNET)
            try:
                yield
            finally:
                _checked("setns", outside, _CLONE_NEWNET)
        finally:
            os.close(outside)

    def wrapper(self) -> list[str]:
        """A command that executes its arguments in it, under its own process id."""
        return ["nsenter", f"--net=/proc/{os.getpid()}/fd/{self._file}"]

    def close(self) -> None:
        """Leave it to whoever is still in it."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def _make(ipv4: bool, made: list[int]) -> None:
        _checked("unshare", _CLONE_NEWNET)
        _bring_up("lo")
        if not ipv4:
            # No address takes away the one that it got by being brought up.
            _set_address("lo", _SIOCSIFADDR, "0.0.0.0")
        made.append(os.open(_HERE, os.O_RDONLY))


class LossyLine:
    """A line from FAR to NEAR that loses some of the packets, whichever way they go.

    A packet to FAR is handed to a TUN device of the network. Sent back with its two addresses exchanged it comes from
    FAR to NEAR; the exchange leaves its checksums valid.
    """

    def __init__(self, network: Network, loss: float, seed: int) -> None:
        """Make the device; nothing passes before the line is entered. Skips the test, or fails in CI, without TUN.

        Args:
          loss: how many of the packets, from 0 to 1.
          seed: which of them.
        """
        if not os.path.exists(_TUN):
            unable(f"a lossy line needs {_TUN}")
        self.passed = self.lost = 0
        self._loss, self._dice = loss, random.Random(seed)
        self._stop_reader, self._stop_writer = os.pipe()
        with network.entered():
            self._device = os.open(_TUN, os.O_RDWR)
            fcntl.ioctl(self._device, _TUNSETIFF, struct.pack("16sH22x", b"line", _IFF_TUN_PLAIN))
            _set_address("line", _SIOCSIFADDR, NEAR)
            _set_address("line", _SIOCSIFNETMASK, "255.255.255.0")
            _bring_up("line")
        self._thread = threading.Thread(target=self._carry, name="lossy-line")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._stop_writer)
        self._thread.join()
        for file in (self._stop_reader, self._device):
            os.close(file)

    def _carry(self) -> None:
        while self._stop_reader not in select.select([self._device, self._stop_reader], [], [])[0]:
            packet = os.read(self._device, _LARGEST)
            if packet[0] >> 4 != 4:
                continue
            if self._dice.random() < self._loss:
                self.lost += 1
                continue
            self.passed += 1
            os.write(self._device, packet[:12] + packet[16:20] + packet[12:16] + packet[20:])


def _bring_up(device: str) -> None:
    _configure(_SIOCSIFFLAGS, struct.pack("16sH22x", device.encode(), _IFF_UP_RUNNING))


def _set_address(device: str, request: int, address: str) -> None:
    internet = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
    _configure(request, struct.pack("16s16s8x", device.encode(), internet))


def _configure(request: int, what: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, request, what)


def _checked(function: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")
