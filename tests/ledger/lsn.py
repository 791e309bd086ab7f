"""PostgreSQL's notation of positions in its log."""

from __future__ import annotations


def parse_lsn(text: str) -> int:
    """`16/B374D848` as a number. Raises ValueError."""
    high, slash, low = text.partition("/")
    if not slash:
        raise ValueError(f"no LSN: {text!r}")
    return (int(high, 16) << 32) | int(low, 16)


def show_lsn(lsn: int) -> str:
    """The notation of a number."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
