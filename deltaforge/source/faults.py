"""What PostgreSQL's and libpq's errors mean for us: whose fault, and what to do. Pure.

Errors of a session carry an SQLSTATE and are judged by it. libpq gives none for a failed connection, only text: that is
matched in English; a server that speaks another language at login is judged as "away", with its text shown. No text of
this module holds a DSN: addresses are printed without secrets, and server texts pass the redactor.
"""

from __future__ import annotations

from deltaforge.config.secret import redact
from deltaforge.errors import DeltaforgeError, OperatorError, SlotBusy, TransientError


class ServerShutdown(TransientError):
    """The server is going down or coming up."""

    hint = "deltaforge goes on by itself when the server is back"


class SlotMissing(TransientError):
    """The slot is not there. The next start decides what that means; alone it is no verdict."""

    hint = "the next start looks at the checkpoint and decides"


class SlotExists(TransientError):
    """Somebody else made the slot first."""

    hint = "another first start may be under way; deltaforge looks again"


class PublicationMissing(OperatorError):
    """The publication did not exist at the point of the WAL that is being decoded."""

    hint = (
        "create the publication if it is missing; what was changed while there was none, also before the first one, "
        "can never be read: then drop the slot and start anew"
    )


_AUTH_HINT = "check user and password in the DSN, the role (LOGIN REPLICATION) and pg_hba.conf"
_TAKEN_HINT = "all connections or walsenders are taken; raise max_connections or max_wal_senders"
_TLS_HINT = "check sslmode, sslrootcert, sslcert and sslkey in the DSN against the server's certificate"
_PERMISSION_HINT = "the role needs LOGIN REPLICATION, CONNECT on the database and USAGE on the schemas"

_STATES: dict[str, tuple[type[DeltaforgeError], str | None]] = {
    "28000": (OperatorError, _AUTH_HINT),
    "28P01": (OperatorError, _AUTH_HINT),
    "3D000": (OperatorError, "correct the database name in the DSN"),
    "42501": (OperatorError, _PERMISSION_HINT),
    "42704": (SlotMissing, None),
    "42710": (SlotExists, None),
    "53300": (TransientError, _TAKEN_HINT),
    "53400": (OperatorError, "drop unused slots or raise max_replication_slots, then restart the server"),
    "55000": (OperatorError, "logical replication needs wal_level=logical and a slot whose WAL is still there"),
    "55006": (SlotBusy, None),
    "57P01": (ServerShutdown, None),
    "57P02": (ServerShutdown, None),
    "57P03": (ServerShutdown, None),
}
_CLASSES: dict[str, tuple[type[DeltaforgeError], str | None]] = {
    "08": (TransientError, None),
    "40": (TransientError, None),
    "53": (TransientError, "the server lacks memory, disk or connections"),
    "57": (TransientError, None),
    "58": (OperatorError, "the server cannot read its files; see its log"),
}

_SHUTDOWN_TEXTS = ("is shutting down", "is starting up", "in recovery mode", "not yet accepting connections")
_TRANSIENT_TEXTS = (
    "ssl syscall error",
    "ssl connection has been closed",
    "server closed the connection",
    "connection refused",
    "timeout expired",
    "timed out",
    "session is read-only",
    "session is not read-only",
    "server is in hot standby mode",
)
_TAKEN_TEXTS = ("too many clients", "connection slots", "max_wal_senders", "too many connections")
_CONNECT_TEXTS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("certificate", "ssl error", "does not support ssl", "ssl is not", "server does not support tls"), _TLS_HINT),
    (("no pg_hba.conf entry", "pg_hba.conf rejects"), "add a hostssl line for this database and role to pg_hba.conf"),
    (('database "',), "correct the database name in the DSN, or grant CONNECT on it"),
    (
        ("authentication", "no password supplied", 'role "', "not permitted to log in", "scram", "auth method"),
        _AUTH_HINT,
    ),
    (("walsender", "wal sender", "permission denied"), _PERMISSION_HINT),
)


def from_sqlstate(state: str, text: str, doing: str) -> DeltaforgeError:
    """The error for a server error; `doing` says in a few words what was attempted."""
    message = f"{doing}: {clean(text)} (SQLSTATE {state})"
    kind, hint = _STATES.get(state) or _CLASSES.get(state[:2]) or (OperatorError, "see the server's log")
    return kind(message, hint=hint)


def from_stream_state(state: str, text: str) -> DeltaforgeError:
    """The error for an error or a warning in mid-stream; there an unknown object is the publication, not the slot.

    Up to 17 a missing publication is an error (42704). Since 18 it is a warning (55000), and the changes it would have
    published are left out: going on would lose them without a word.
    """
    if state in ("42704", "55000"):
        return PublicationMissing(
            f"streaming: {clean(text)} (SQLSTATE {state}): it did not exist when the next changes were made"
        )
    return from_sqlstate(state, text, "streaming")


def from_connect_text(text: str, target: str) -> DeltaforgeError:
    """The error for a failed connection to `target` (user@host:port/dbname), judged by libpq's text."""
    message, lowered = f"cannot connect to {target}: {clean(text)}", text.lower()
    if any(part in lowered for part in _SHUTDOWN_TEXTS):
        return ServerShutdown(message)
    if any(part in lowered for part in _TAKEN_TEXTS):
        return TransientError(message, hint=_TAKEN_HINT)
    if any(part in lowered for part in _TRANSIENT_TEXTS):
        return TransientError(message, hint="is the server up and reachable at this address?")
    for parts, hint in _CONNECT_TEXTS:
        if any(part in lowered for part in parts):
            return OperatorError(message, hint=hint)
    return TransientError(message, hint="is the server up and reachable at this address?")


def clean(text: str) -> str:
    """A server's text in one line, without secrets and of bounded length."""
    line = " ".join(redact(text).split())
    return line[:500] or "no reason given"
