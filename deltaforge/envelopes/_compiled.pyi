from collections.abc import Callable, Collection, Mapping, Sequence

from deltaforge.envelopes.base import Headers

CODES: dict[str, int]

class Table:
    topic: str
    selected: bool
    def __init__(
        self,
        topic: str,
        selected: bool,
        identity: list[bool],
        columns: list[tuple[int, int, Callable[[str], str] | Mapping[str, str], bytes, bytes, bytes]],
        key: list[tuple[int, bytes]],
        texts: tuple[bytes, bytes, bytes],
        middle: Sequence[bytes],
    ) -> None: ...

class Records:
    def __init__(
        self,
        topics: list[str],
        keys: list[bytes | None],
        values: list[bytes | None],
        headers: list[Headers | None],
    ) -> None: ...

class Writer:
    previous: int
    seen: int
    events: int
    nbytes: int
    def __init__(
        self,
        known: Sequence[bytes],
        unknown: Sequence[bytes],
        skipped: Collection[str],
        tombstones: bool,
        lsn_name: str,
        index_name: str,
    ) -> None: ...
    def announce(self, oid: int, table: Table | None) -> None: ...
    def forget(self) -> None: ...
    def begin(self, tail_c: bytes, tail_u: bytes, tail_d: bytes) -> None: ...
    def open(self, xid: int, us: int, previous: int, first: int, positions: int) -> bool: ...
    def rows(self, messages: list[bytes], at: int, to: Records) -> int: ...
    def run(
        self, messages: list[bytes], at: int, previous: int, unknown: int, least: int, positions: bool, to: Records
    ) -> int: ...
