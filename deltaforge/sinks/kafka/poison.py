"""Say which row a record came from, without saying what is in it."""

from __future__ import annotations

import msgspec

from deltaforge.model import Lsn


class _Source(msgspec.Struct, frozen=True):
    schema: str = "?"
    table: str = "?"
    lsn: int | None = None


class _Envelope(msgspec.Struct):
    source: _Source = _Source()


_decoder = msgspec.json.Decoder(_Envelope)


def describe_row(value: bytes | None) -> str:
    """Table, LSN and size of a record's row, as far as its source block tells."""
    if value is None:
        return "a tombstone"
    try:
        source = _decoder.decode(value).source
    except msgspec.DecodeError:
        return f"a record of {len(value)} bytes"
    at = f" at {Lsn(source.lsn)}" if source.lsn is not None else ""
    return f"the record of {source.schema}.{source.table}{at} ({len(value)} bytes)"
