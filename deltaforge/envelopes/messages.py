"""Logical messages (`pg_logical_emit_message`) as records of a topic of their own.

Rule 1: a filtered message is as if it had never been written: no record, and no place in its transaction's counts.
Rule 2: the topic, the key and the value hold no table; header and table identifier of rows do not apply.
"""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from binascii import hexlify
from typing import TYPE_CHECKING, NamedTuple

from deltaforge.envelopes.changes import Record
from deltaforge.envelopes.jsontext import quote
from deltaforge.envelopes.recordschemas import MESSAGE_KEY, message_value, with_schema
from deltaforge.errors import ProtocolViolation
from deltaforge.patterns import chosen

if TYPE_CHECKING:
    from collections.abc import Callable

    from deltaforge.envelopes.base import EncoderSpec
    from deltaforge.envelopes.frame import Frame

_CONTENT: dict[str, Callable[[bytes], bytes]] = {
    "bytes": b64encode,
    "base64": b64encode,
    "base64-url-safe": urlsafe_b64encode,
    "hex": hexlify,
}


class Message(NamedTuple):
    """What a Message of pgoutput says."""

    lsn: int
    prefix: str
    """Wire text."""
    content: bytes


def read_message(message: bytes) -> Message:
    """Read an XLogData message that holds a Message. Raises ProtocolViolation when it is not formed as one."""
    end = message.find(b"\0", 35)
    size = int.from_bytes(message[end + 1 : end + 5], "big")
    if end < 0 or len(message) != end + 5 + size:
        raise ProtocolViolation("a logical message does not have the length it says")
    return Message(int.from_bytes(message[1:9], "big"), message[35:end].decode("latin-1"), message[end + 5 :])


class Messages:
    """The records of logical messages under one EncoderSpec."""

    def __init__(self, spec: EncoderSpec) -> None:
        self._topic = spec.message_topic
        self._key_schema = MESSAGE_KEY if spec.key_schemas else ""
        self._value_schema = message_value(spec.values) if spec.value_schemas else ""
        self._content = _CONTENT[spec.values.binary]
        self._chosen = chosen(
            ("message.prefix.include.list", spec.messages_included),
            ("message.prefix.exclude.list", spec.messages_excluded),
        )

    def wanted(self, message: bytes) -> Message | None:
        """The message, unless it is to give no record. Raises ProtocolViolation."""
        if not self._topic:
            return None
        found = read_message(message)
        return found if self._chosen(found.prefix.encode("latin-1").decode(errors="replace")) else None

    def record(self, message: Message, frame: Frame) -> Record:
        """Its record, counted in its transaction."""
        prefix = f'"prefix":{quote(message.prefix)}'
        content = self._content(message.content).decode("latin-1")
        value = (
            f'{{"op":"m","ts_ms":{frame.now_ms}{frame.message_source(message.lsn)},"transaction":{frame.message_place(message.lsn)},'
            f'"message":{{{prefix},"content":"{content}"}}}}'
        )
        key = with_schema(self._key_schema, f"{{{prefix}}}")
        return Record(
            self._topic, key.encode("latin-1"), with_schema(self._value_schema, value).encode("latin-1"), None
        )
