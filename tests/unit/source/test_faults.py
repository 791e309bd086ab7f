"""Which error a server's words become."""

from __future__ import annotations

import pytest

from deltaforge.config.secret import Secret
from deltaforge.errors import DeltaforgeError, OperatorError, SlotBusy, TransientError
from deltaforge.source import faults

TARGET = "cdc@db:5432/shop"


@pytest.mark.fault("G18")
@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("28P01", OperatorError),
        ("28000", OperatorError),
        ("3D000", OperatorError),
        ("42501", OperatorError),
        ("55000", OperatorError),
        ("53400", OperatorError),
        ("55006", SlotBusy),
        ("42704", faults.SlotMissing),
        ("42710", faults.SlotExists),
        ("57P01", faults.ServerShutdown),
        ("57P03", faults.ServerShutdown),
        ("53300", TransientError),
        ("08006", TransientError),
        ("40001", TransientError),
        ("57014", TransientError),
        ("XX001", OperatorError),
    ],
)
def test_sqlstate_decides_whose_fault_it_is(state: str, kind: type[DeltaforgeError]) -> None:
    """A server that restarts counted as a crash, or a wrong password retried in a rush."""
    error = faults.from_sqlstate(state, "some text", "reading")

    assert type(error) is kind
    assert state in str(error)
    assert "reading" in str(error)


@pytest.mark.fault("G18")
@pytest.mark.parametrize(
    ("text", "kind", "hint"),
    [
        ('FATAL:  password authentication failed for user "cdc"', OperatorError, "password"),
        ("fe_sendauth: no password supplied", OperatorError, "password"),
        ('FATAL:  role "cdc" does not exist', OperatorError, "role"),
        (
            'FATAL:  no pg_hba.conf entry for host "::1", user "cdc", database "shop", no encryption',
            OperatorError,
            "pg_hba",
        ),
        ('FATAL:  database "shop" does not exist', OperatorError, "database"),
        ('FATAL:  permission denied for database "shop"', OperatorError, "CONNECT"),
        ("SSL error: certificate verify failed", OperatorError, "sslrootcert"),
        ('server certificate for "localhost" does not match host name "db"', OperatorError, "sslrootcert"),
        ("server does not support SSL, but SSL was required", OperatorError, "sslmode"),
        ("FATAL:  must be superuser or replication role to start walsender", OperatorError, "REPLICATION"),
        ("FATAL:  the database system is shutting down", faults.ServerShutdown, ""),
        ("FATAL:  the database system is starting up", faults.ServerShutdown, ""),
        ("FATAL:  sorry, too many clients already", TransientError, "max_connections"),
        (
            "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
            TransientError,
            "max_connections",
        ),
        (
            'FATAL:  number of requested standby connections exceeds "max_wal_senders" (currently 10)',
            TransientError,
            "max_wal_senders",
        ),
        ('FATAL:  too many connections for role "cdc"', TransientError, "max_connections"),
        ("connection refused", TransientError, "reachable"),
        ("SSL SYSCALL error: EOF detected", TransientError, ""),
        ("FATAL:  etwas auf Deutsch", TransientError, ""),
    ],
)
def test_connect_text_decides_whose_fault_it_is(text: str, kind: type[DeltaforgeError], hint: str) -> None:
    """libpq gives no SQLSTATE for a failed connection."""
    error = faults.from_connect_text(text, TARGET)

    assert type(error) is kind
    assert hint in error.hint
    assert TARGET in str(error)


def test_a_known_secret_in_a_servers_text_is_covered() -> None:
    """libpq echoes parts of what it was given."""
    Secret("tr0ub4dor&3")

    error = faults.from_connect_text('invalid URI "postgresql://u:tr0ub4dor&3@h" tr0ub4dor%263', TARGET)

    assert "tr0ub4dor" not in error.line()


def test_an_error_is_one_line_of_bounded_length() -> None:
    """A server text with line breaks forges log lines."""
    error = faults.from_sqlstate("22023", "a\nb\t" + "x" * 2000, "asking")

    assert "\n" not in error.line()
    assert len(error.line()) < 700
