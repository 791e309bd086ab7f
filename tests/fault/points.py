"""The named places of the protocol at which the process can be made to die, and who hits which of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.fault.sizes import FAILPOINT_ROUNDS, FULL, SEED

if TYPE_CHECKING:
    from collections.abc import Sequence

Point = tuple[str, int]
"""A place, and at which pass of it."""

MIDDLE: Final = 9
"""A pass at which the stream flows."""

READER: Final = (
    "reader.prepare",
    "checkpoint.reading",
    "walsender.asked.identify_system",
    "reader.before_start",
    "walsender.asked.start_replication",
    "reader.loop",
    "reader.before_feedback",
    "reader.after_feedback",
)
OPENING: Final = (*READER[:5], "sink.idle", "kafka.before_init", "kafka.after_init")
STAGES: Final = ("assembler.loop", "batcher.loop", "checkpointer.loop")
SETTLING: Final = (
    "kafka.before_checkpoint",
    "kafka.after_checkpoint",
    "kafka.before_commit",
    "kafka.commit",
    "kafka.after_commit",
    "kafka.after_receipt",
)
SINK: Final = ("sink.loop", "kafka.before_produce", "kafka.after_produce", *SETTLING)
STEADY: Final = (*READER[5:], *STAGES, *SINK)
REBUILD: Final = ("kafka.before_rebuild", "kafka.during_rebuild", "kafka.after_rebuild")
FLOW: Final = (
    "reader.loop",
    "assembler.loop",
    "batcher.loop",
    "sink.loop",
    "kafka.before_produce",
    "kafka.after_produce",
)
"""Places that one source transaction passes several times."""
ABORT: Final = ("kafka.before_abort", "kafka.after_abort")
ELSEWHERE: Final = {
    "test_first_start": r"startup\..*",
    "test_aborts": "|".join(ABORT),
    "test_actors": r"(monitor|admin)\.loop",
    "outside of the protocol": r"cli\..*",
    "the small sinks, which have no protocol": r"sink\.(loop|written)",
}


def starts(names: Sequence[str]) -> list[Point]:
    """Each place of a start in the first one of a process, and in full in the second one as well."""
    return [(name, at) for at in ((1, 2) if FULL else (1,)) for name in names]


def passes(names: Sequence[str], first: int) -> list[Point]:
    """Each place at this pass, and in further rounds at later ones."""
    return [(name, first + MIDDLE * turn) for turn in range(FAILPOINT_ROUNDS + 1) for name in names]


def early_and_late(names: Sequence[str]) -> list[Point]:
    """Each place at its first pass and in the middle of the work; when quick, at one of the two by the seed's dice."""
    if FULL:
        return [*passes(names, 1), *passes(names, MIDDLE)]
    return [
        point for number, name in enumerate(names) for point in passes([name], MIDDLE if (number + SEED) % 2 else 1)
    ]
