"""The guard before an epoch and the decisions of the first start."""

from __future__ import annotations

import msgspec
import pytest

from deltaforge.errors import Refused
from deltaforge.model import (
    Anchor,
    Checkpoint,
    Lease,
    Lsn,
    Position,
    Progress,
    SlotState,
    Stored,
    TimelineSwitch,
)
from deltaforge.position import Start, first_start, guard

PROGRESS = Progress(Position(Lsn(0x40), 3), Anchor(Lsn(0x40), 7, 70), Lsn(0x48), Lsn(0x50))
RECORD = Checkpoint("running", "sys", 2, "db", "slot", "pub", "opt", "me", 9, PROGRESS)
LEASE = Lease(1, 99, "sys", 2, (TimelineSwitch(1, Lsn(0x20)),), "db", "slot", Lsn(0x48))
SLOT = SlotState(True, 99, Lsn(0x48), Lsn(0x10), "reserved", Lsn(0x60), "sys", "db", 0)
replace = msgspec.structs.replace


def test_a_fitting_record_is_gone_on_from() -> None:
    """The plain case: same server, slot at or below what is durable."""
    assert guard(RECORD, LEASE, SLOT) == PROGRESS
    assert guard(RECORD, replace(LEASE, confirmed_flush=Lsn(0x50)), SLOT) == PROGRESS


@pytest.mark.fault("G5")
@pytest.mark.parametrize(
    ("field", "words"),
    [("system_id", "system identifier"), ("database", "database"), ("slot", "slot")],
)
def test_a_record_of_another_source_is_refused(field: str, words: str) -> None:
    """Guards the same pipeline pointed at a wrong database by mistake."""
    with pytest.raises(Refused, match=f"wrong source.*{words}"):
        guard(replace(RECORD, **{field: "other"}), LEASE, SLOT)


@pytest.mark.fault("G6")
def test_a_slot_past_the_record_is_a_gap_named_with_its_range_and_its_flag() -> None:
    """Guards a slot advanced by hand or made again: what lies between is lost."""
    with pytest.raises(Refused, match="between 0/50 and 0/51") as refused:
        guard(RECORD, replace(LEASE, confirmed_flush=Lsn(0x51)), SLOT)
    assert "--accept-gap=0/50" in refused.value.hint


def test_the_gap_flag_is_good_for_exactly_its_position() -> None:
    """Guards a flag forgotten in a manifest: it must not disarm the next gap."""
    ahead = replace(LEASE, confirmed_flush=Lsn(0x58))
    assert guard(RECORD, ahead, SLOT, Lsn(0x50)).flush_lsn == 0x58
    with pytest.raises(Refused):
        guard(RECORD, ahead, SLOT, Lsn(0x58))


def test_what_others_confirmed_on_this_very_stream_is_no_gap() -> None:
    """Guards an optional sink that opens late: what the slot has passed since the stream began waits in its inbox."""
    assert guard(RECORD, LEASE, replace(SLOT, confirmed_flush=Lsn(0x58))) == PROGRESS


@pytest.mark.fault("G4", "G5")
@pytest.mark.parametrize("end", [0x3F, 0x4F])
def test_a_server_whose_wal_ends_before_the_record_is_refused(end: int) -> None:
    """Guards a restored or failed-over server that lost the end of its WAL."""
    with pytest.raises(Refused, match="lost changes that are already in Kafka"):
        guard(RECORD, LEASE, replace(SLOT, current_wal=Lsn(end)))
    assert guard(RECORD, LEASE, replace(SLOT, current_wal=Lsn(0x50))) == PROGRESS


@pytest.mark.fault("G4")
@pytest.mark.parametrize(
    ("timeline", "history", "words"),
    [
        (3, ((1, 0x20), (2, 0x50)), ""),
        (3, ((1, 0x20), (2, 0x4F)), "timeline 2 ended at 0/4F"),
        (3, ((1, 0x20),), "not in the history"),
        (1, (), "not in the history"),
        (2, (), ""),
    ],
)
def test_a_new_timeline_must_have_left_the_old_one_after_the_record(
    timeline: int, history: tuple[tuple[int, int], ...], words: str
) -> None:
    """Guards failovers: positions of a lost tail are used again by other changes."""
    switches = tuple(TimelineSwitch(number, Lsn(end)) for number, end in history)
    lease = replace(LEASE, timeline=timeline, history=switches)
    if words:
        with pytest.raises(Refused, match=words):
            guard(RECORD, lease, SLOT)
    else:
        assert guard(RECORD, lease, SLOT) == PROGRESS


# ---- the first start

NO_SLOT = replace(SLOT, exists=False, confirmed_flush=Lsn(0), wal_status="")
CREATING_SLOT = replace(SLOT, confirmed_flush=Lsn(0))
NOTHING = Stored()
CREATING = Stored(creating=replace(RECORD, state="creating", progress=Progress()))
BORN = Stored(creating=CREATING.creating, born=replace(RECORD, state="born", progress=Progress(flush_lsn=Lsn(0x50))))
RUNNING = Stored(running=RECORD)

DECISIONS = [
    (NO_SLOT, (), Start.CREATE_SLOT),
    (CREATING_SLOT, (), Start.WAIT),
    (SLOT, (), Start.STREAM),
    (NO_SLOT, (NOTHING,), Start.WRITE_CREATING),
    (NO_SLOT, (CREATING, NOTHING), Start.WRITE_CREATING),
    (NO_SLOT, (CREATING, CREATING), Start.CREATE_SLOT),
    (CREATING_SLOT, (CREATING,), Start.WAIT),
    (SLOT, (CREATING,), Start.ADOPT),
    (SLOT, (CREATING, CREATING), Start.ADOPT),
    (SLOT, (BORN, CREATING), Start.COPY_BORN),
    (SLOT, (BORN,), Start.STREAM),
    (SLOT, (RUNNING, BORN), Start.STREAM),
]

REFUSALS = [
    (SLOT, (NOTHING,), "no checkpoint record", "--adopt-slot=0/48"),
    (SLOT, (CREATING, NOTHING), "no checkpoint record", "--adopt-slot=0/48"),
    (SLOT, (RUNNING, NOTHING), "one Kafka sink has no checkpoint record", "restore"),
    (SLOT, (RUNNING, CREATING), "one Kafka sink has no checkpoint record", "restore"),
    (NO_SLOT, (BORN,), "slot does not exist", "--accept-gap=0/50"),
    (NO_SLOT, (RUNNING,), "slot does not exist", "--accept-gap=0/50"),
    (NO_SLOT, (RUNNING, CREATING), "slot does not exist", "--accept-gap=0/50"),
]


@pytest.mark.parametrize(("slot", "stored", "step"), DECISIONS)
@pytest.mark.parametrize("looked_twice", [False, True])
def test_every_moment_of_a_first_start_has_one_next_step(
    slot: SlotState, stored: tuple[Stored, ...], step: Start, looked_twice: bool
) -> None:
    """Guards a kill between any two steps of the first start: it goes on where it was."""
    assert first_start(slot, stored, looked_twice=looked_twice) is step


@pytest.mark.parametrize(("slot", "stored", "words", "hint"), REFUSALS)
def test_what_is_missing_is_refused_only_after_a_second_look(
    slot: SlotState, stored: tuple[Stored, ...], words: str, hint: str
) -> None:
    """Guards a race of two first starts, in which the first look may see half of it."""
    assert first_start(slot, stored, looked_twice=False) is Start.LOOK_AGAIN
    with pytest.raises(Refused, match=words) as refused:
        first_start(slot, stored, looked_twice=True)
    assert hint in refused.value.hint


@pytest.mark.parametrize("lost", [NOTHING, CREATING])
def test_a_sink_that_can_be_spared_and_has_lost_its_record_stops_nobody_after_a_second_look(lost: Stored) -> None:
    """Guards the pipeline against the checkpoint topic of a sink that nobody waits for."""
    stored = (RUNNING, lost)
    assert first_start(SLOT, stored, looked_twice=False, enough=True) is Start.LOOK_AGAIN
    assert first_start(SLOT, stored, looked_twice=True, enough=True) is Start.STREAM
    with pytest.raises(Refused, match="slot does not exist"):
        first_start(NO_SLOT, stored, looked_twice=True, enough=True)


@pytest.mark.fault("G7")
def test_a_lost_slot_is_refused_at_once() -> None:
    """Guards against waiting for WAL that PostgreSQL has removed."""
    with pytest.raises(Refused, match=r"lost: .*max_slot_wal_keep_size"):
        first_start(replace(SLOT, wal_status="lost"), (RUNNING,), looked_twice=False)
    with pytest.raises(Refused, match=r"lost: .*idle_replication_slot_timeout"):
        first_start(replace(SLOT, wal_status="lost", lost_because="idle_timeout"), (RUNNING,), looked_twice=False)


def test_the_adopt_flag_is_good_for_exactly_the_slots_position() -> None:
    """Guards a flag left behind: it must not adopt a slot that has moved on."""
    assert first_start(SLOT, (NOTHING,), looked_twice=True, adopt=Lsn(0x48)) is Start.WRITE_CREATING
    with pytest.raises(Refused):
        first_start(SLOT, (NOTHING,), looked_twice=True, adopt=Lsn(0x47))


def test_the_gap_flag_makes_a_new_slot_only_for_the_position_it_names() -> None:
    """Guards a flag left behind when the slot disappears another time."""
    assert first_start(NO_SLOT, (RUNNING,), looked_twice=True, accept_gap=Lsn(0x50)) is Start.CREATE_SLOT
    with pytest.raises(Refused):
        first_start(NO_SLOT, (RUNNING,), looked_twice=True, accept_gap=Lsn(0x51))
