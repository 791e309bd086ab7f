"""How we connect: keywords for libpq, settings that decide text output, addresses resolved without blocking.

Rule 1: settings go into the startup packet; there they win over those of role and database.
Rule 2: names are resolved by Trio and passed as hostaddr; `host` stays, for the certificate check.
Rule 3: every address is an attempt with a deadline of its own, so that a dead first host does not hide the second.
"""

from __future__ import annotations

import os
import random
import socket
from typing import TYPE_CHECKING

import trio

from deltaforge.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deltaforge.config.dsn import Dsn

CONNECT_S = 10.0
"""Deadline of one attempt, unless the DSN sets connect_timeout."""

SETTINGS: Mapping[str, str] = {
    "DateStyle": "ISO,MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
}
"""Set in every session. The decoders rely on them."""
TRANSACTION_TIMEOUT_SINCE = 170000
NO_TRANSACTION_TIMEOUT = "SET transaction_timeout = 0"
"""For sessions of servers that know it; others refuse a session that names it."""
AS_IT_IS = "SET client_encoding TO 'SQL_ASCII'"
"""For sessions of databases that know no encoding: the server would refuse to send bytes that are no UTF-8."""

# A peer that vanished without a word is noticed in 25 s idle, in 30 s with unacknowledged data.
_KEEPALIVE = {
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}


def attempts_keywords(dsn: Dsn, addresses: list[tuple[str, str, str]], application: str) -> list[dict[str, str]]:
    """libpq keywords, secrets revealed, one set per (host, address, port). Hand them to libpq and nobody else."""
    options = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
    given = dsn.conninfo_keywords(reveal=True)
    base = {**_KEEPALIVE, "application_name": application, **given, "options": options, "client_encoding": "UTF8"}
    base.pop("load_balance_hosts", None)
    attempts = []
    for host, address, port in addresses:
        one = {**base, "host": host, "port": port}
        if address:
            one["hostaddr"] = address
        attempts.append(one)
    return attempts


async def resolve(dsn: Dsn) -> list[tuple[str, str, str]]:
    """(host, address, port) in the order to try. The address of a Unix socket directory is empty.

    Raises:
      TransientError: no host name resolves.
    """
    hosts = dsn.host.split(",")
    ports = dsn.port.split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    found: list[tuple[str, str, str]] = []
    for host, port in zip(hosts, ports, strict=True):
        port = port or "5432"
        if host.startswith("/"):
            found.append((host, "", port))
            continue
        name = host.removeprefix("[").removesuffix("]")
        try:
            answers = await trio.socket.getaddrinfo(name, int(port), type=socket.SOCK_STREAM)
        except OSError:
            continue
        unique = dict.fromkeys(str(answer[4][0]) for answer in answers)
        found += [(name, address, port) for address in unique]
    if not found:
        raise TransientError(f"cannot resolve {dsn.host}", hint="check the host name in the DSN and the name service")
    if dsn.conninfo_keywords().get("load_balance_hosts") == "random":
        random.shuffle(found)
    return found


def no_descriptor(target: str) -> TransientError | None:
    """The error for a process that can open nothing more, of which libpq says no word; None when it can."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return TransientError(
            f"cannot connect to {target}: {os.strerror(error.errno or 0)}",
            hint="raise the limit of open files (ulimit -n, LimitNOFILE=); deltaforge goes on by itself",
        )
    return None


def deadline(dsn: Dsn) -> float:
    """Seconds one attempt may take. libpq's own connect_timeout only works in its blocking call."""
    seconds = float(dsn.conninfo_keywords().get("connect_timeout", "0"))
    return seconds or CONNECT_S


def conninfo(keywords: Mapping[str, str]) -> bytes:
    """libpq's keyword form, every value quoted."""
    quoted = (f"{name}='{_escaped(value)}'" for name, value in keywords.items())
    return " ".join(quoted).encode()


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")
