"""Ask a PostgreSQL server whether it takes connections, without a driver, and write URLs for it. Pure but for a socket.

The driver is fenced into `source/`; a start-up message of 3.0 is all that is needed: the server answers with an
authentication request, or with an error whose SQLSTATE says what it is doing.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from deltaforge.embedded.ports import HOST

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROTOCOL_3 = 196_608
# "the database system is starting up", or in recovery.
_NOT_YET = b"C57P03"


def url(host: str, port: int, user: str, password: str, dbname: str, params: Mapping[str, str]) -> str:
    """A libpq connection URL, each part quoted."""
    secret = f":{quote(password, safe='')}" if password else ""
    query = f"?{urlencode(params, quote_via=quote)}" if params else ""
    return f"postgresql://{quote(user, safe='')}{secret}@{host}:{port}/{quote(dbname, safe='')}{query}"


def ready(port: int) -> bool:
    """Whether the server on this port has got as far as deciding about a connection, be it by refusing this one."""
    body = struct.pack("!I", _PROTOCOL_3) + b"user\0postgres\0database\0postgres\0\0"
    try:
        with socket.create_connection((HOST, port), timeout=2.0) as connection:
            connection.sendall(struct.pack("!I", len(body) + 4) + body)
            answer = connection.recv(4096)
    except OSError:
        return False
    return answer[:1] == b"R" or (answer[:1] == b"E" and _NOT_YET not in answer)
