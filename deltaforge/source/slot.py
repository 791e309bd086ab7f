"""The replication slot: its commands, quoted, and making or dropping it.

Quoting: the replication grammar knows neither parameters nor backslashes; identifiers double their `"`, literals their
`'`. Publication names are a list of identifiers inside a literal, so they are quoted twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltaforge.errors import ProtocolViolation
from deltaforge.model import Lsn, TimelineSwitch
from deltaforge.source import conn

if TYPE_CHECKING:
    from deltaforge.config.dsn import Dsn

MESSAGES_SINCE = 140000
FAILOVER_SINCE = 170000


def identifier(name: str) -> str:
    """Quote an identifier for SQL or a replication command. Raises ValueError for one PostgreSQL cannot hold."""
    if not name or "\0" in name:
        raise ValueError("an identifier must not be empty or hold NUL")
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a string literal for a replication command. Raises ValueError when it holds NUL."""
    if "\0" in text:
        raise ValueError("a literal must not hold NUL")
    return "'" + text.replace("'", "''") + "'"


def create_command(slot: str, *, failover: bool, server_version: int) -> str:
    """CREATE_REPLICATION_SLOT for pgoutput; `failover` is left out where the server does not know it."""
    head = f"CREATE_REPLICATION_SLOT {identifier(slot)} LOGICAL pgoutput"
    if failover and server_version >= FAILOVER_SINCE:
        return f"{head} (SNAPSHOT 'nothing', FAILOVER true)"
    return f"{head} NOEXPORT_SNAPSHOT"


def start_command(slot: str, publication: str, *, server_version: int) -> str:
    """START_REPLICATION from where the slot stands: an LSN of ours would skip data silently when it is too high."""
    options = f"proto_version '1', publication_names {literal(identifier(publication))}"
    if server_version >= MESSAGES_SINCE:
        options += ", messages 'true'"
    return f"START_REPLICATION SLOT {identifier(slot)} LOGICAL 0/0 ({options})"


def options_fingerprint(publication: str) -> str:
    """Everything we ask for that decides which messages the stream holds; a checkpoint records it."""
    return f"pgoutput proto_version=1 messages=true publication={identifier(publication)}"


async def create_slot(dsn: Dsn, slot: str, *, failover: bool = False) -> Lsn:
    """Make the slot and return its consistent point. Waits as long as older transactions run.

    Raises:
      SlotExists: somebody made it first.
      DeltaforgeError: as connecting; lack of rights, slots or wal_level are OperatorErrors.
    """
    with await conn.connect(dsn) as connection:
        command = create_command(slot, failover=failover, server_version=connection.server_version)
        rows = await connection.simple_query(command, doing=f'creating slot "{slot}"')
    if not rows or rows[0][1] is None:
        raise ProtocolViolation("CREATE_REPLICATION_SLOT answered without a consistent point")
    return Lsn.parse(rows[0][1].decode())


async def drop_slot(dsn: Dsn, slot: str) -> None:
    """Drop the slot. Raises SlotBusy while it is read, SlotMissing when it is not there."""
    with await conn.connect(dsn) as connection:
        await connection.simple_query(f"DROP_REPLICATION_SLOT {identifier(slot)}", doing=f'dropping slot "{slot}"')


def parse_history(content: bytes) -> tuple[TimelineSwitch, ...]:
    """The file TIMELINE_HISTORY answers with: one line per ended timeline, oldest first.

    Raises:
      ProtocolViolation: the file cannot be read.
    """
    switches = []
    for line in content.decode(errors="replace").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            switches.append(TimelineSwitch(int(words[0]), Lsn.parse(words[1])))
        except (ValueError, IndexError):
            raise ProtocolViolation("the timeline history cannot be read") from None
    return tuple(switches)
