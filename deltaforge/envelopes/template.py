"""The texts of a change event around the numbers that vary by transaction, for the compiled encoder.

frame.py says what stands around a row. Here its text is written once with numbers that nobody has and cut where they
stand, so that no text of the envelope is written down twice.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deltaforge.envelopes.frame import Frame, Origin
from deltaforge.model import Lsn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deltaforge.envelopes.base import EncoderSpec
    from deltaforge.envelopes.plan import Plan

_US = 8_314_159_265_358_979
_XID = 4_294_967_291
_PREVIOUS = Lsn(18_446_744_073_709_551_557)
_UNKNOWN = Lsn(0)


class Template:
    """The constant text of every event of one encoder. Attributes are UTF-8."""

    def __init__(self, spec: EncoderSpec) -> None:
        self._spec = spec
        self.known = _cut(self.frame(0, _PREVIOUS).head, [_US // 1000, int(_PREVIOUS)])
        """The head before, between and after the commit's milliseconds and the last transaction's end."""
        self.unknown = _cut(self.frame(0).head, [_US // 1000])
        """The same where that end is not known."""

    def middle(self, plan: Plan) -> tuple[bytes, ...]:
        """What stands between the two LSNs, around the commit's microseconds, its nanoseconds and the xid."""
        return _cut(self.frame(0).middle(plan), [_US, _US * 1000, _XID])

    def frame(self, now_ns: int, previous: Lsn = _UNKNOWN) -> Frame:
        """What stands around rows of a transaction that nobody has."""
        return Frame(self._spec, _XID, _US, previous, now_ns, Origin())


def _cut(text: str, numbers: Iterable[int]) -> tuple[bytes, ...]:
    """`text` around `numbers`, which stand in it in this order, each once.

    Raises ValueError when they do not: a name holds one of them.
    """
    wanted = [str(number) for number in numbers]
    cut = re.split(rf"(?<!\d)({'|'.join(wanted)})(?!\d)", text)
    if cut[1::2] != wanted:
        raise ValueError("the frame of an event does not have the numbers it should have")
    return tuple(piece.encode("latin-1") for piece in cut[::2])
