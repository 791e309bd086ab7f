"""The file and the stdout sink against real disks and pipes that fail."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from actors import ActorContext, Escalate, Retry
from deltaforge.errors import OperatorError
from deltaforge.sinks.file import FileSink
from deltaforge.sinks.stdout import StdoutSink
from tests.support.sink_rig import Handles, keep_running, message, part

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deltaforge.sinks.base import Sink

LIMIT_S = 30


def ids(path: Path) -> list[str]:
    return [json.loads(line)["value"]["id"] for line in path.read_text().splitlines()]


async def serve(handles: Handles, sink: Sink, nursery: trio.Nursery, restarts: list[str]) -> None:
    await nursery.start(keep_running, lambda: sink, restarts)


async def blocked(handles: Handles, words: str) -> None:
    """Wait until the sink has reported that a person has to do something."""
    while not any(state == "blocked" and words in detail for state, detail in handles.reports):  # noqa: ASYNC110 - a list
        await trio.sleep(0.005)


async def until_accepted(handles: Handles, number: int, *items: object) -> None:
    """Play the reader: begin epoch after epoch, as the sink asks for them, until one goes through."""
    epoch = handles.epoch.value
    while True:
        epoch = max(epoch, handles.rewind.value) + 1
        await handles.begin(epoch)
        await handles.feed(*items)  # type: ignore[arg-type]
        with trio.move_on_after(0.1):
            await handles.until_durable(number, epoch)
            return


@pytest.mark.fault("C1")
async def test_a_line_torn_by_a_crash_is_cut_away(tmp_path: Path) -> None:
    """Guards readers of the file: half a line is not JSON."""
    path = tmp_path / "out"
    path.write_bytes(b'{"value":{"id":"old"}}\n{"value":{"i')
    handles = Handles()
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            await serve(handles, FileSink(handles.wiring(), path=str(path)), nursery, [])
            await handles.begin(1)
            await handles.feed(part(1, 10, 0, 1, 12))
            await handles.until_durable(12)
            handles.inbox.close()
    assert ids(path) == ["old", "1.0"]


async def test_a_long_torn_line_is_cut_away_to_its_very_beginning(tmp_path: Path) -> None:
    """Guards lines longer than one look backwards."""
    path = tmp_path / "out"
    path.write_bytes(b'{"value":{"id":"old"}}\n' + b"x" * 300_000)
    sink = FileSink(Handles().wiring(), path=str(path))
    await sink.open()
    sink.close()
    assert ids(path) == ["old"]


@pytest.mark.fault("C1")
async def test_a_missing_directory_blocks_until_somebody_makes_it(tmp_path: Path) -> None:
    """Guards a typing error in `path`: nothing is confirmed, and mending it is enough."""
    path = tmp_path / "later" / "out"
    handles, restarts = Handles(), list[str]()
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            await serve(handles, FileSink(handles.wiring(), path=str(path)), nursery, restarts)
            await blocked(handles, "create the directory")
            assert handles.receipts.value is None
            path.parent.mkdir()
            await until_accepted(handles, 12, part(1, 10, 0, 1, 12))
            handles.inbox.close()
    assert ids(path) == ["1.0"]
    assert restarts


@pytest.mark.fault("C1")
async def test_a_deleted_file_is_begun_anew_with_what_was_not_confirmed(tmp_path: Path) -> None:
    """Guards log rotation: rows written into a file without a name must not be confirmed."""
    path = tmp_path / "out"
    handles = Handles()
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            await serve(handles, FileSink(handles.wiring(), path=str(path)), nursery, [])
            await handles.begin(1)
            await handles.feed(part(1, 10, 0, 1, 12))
            await handles.until_durable(12)
            path.unlink()
            await handles.feed(part(2, 20, 0, 1, 22))
            await blocked(handles, "deleted or moved")
            assert handles.receipts.value is not None
            assert handles.receipts.value.flush_lsn == 12
            await until_accepted(handles, 22, part(1, 10, 0, 1, 12), part(2, 20, 0, 1, 22))
            handles.inbox.close()
    assert ids(path) == ["2.0"]


async def test_two_sinks_never_write_one_file(tmp_path: Path) -> None:
    """Guards two pipelines with the same path: they would cut away each other's lines."""
    first, second = (FileSink(Handles().wiring(), path=str(tmp_path / "out")) for _ in range(2))
    await first.open()
    with pytest.raises(OperatorError, match="another sink"):
        await second.open()
    second.close()
    first.close()
    await second.open()
    second.close()


@contextmanager
def small_disk(at: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    at.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(at)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"cannot mount a tmpfs: {made.stderr.decode().strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", str(at)], check=True)


@pytest.mark.fault("C1")
async def test_a_full_disk_blocks_until_there_is_room_and_no_row_is_lost_or_doubled(tmp_path: Path) -> None:
    """Guards ENOSPC: half a batch on disk must neither be confirmed nor stay there."""
    with small_disk(tmp_path / "disk") as disk:
        path, ballast = disk / "out", disk / "ballast"
        ballast.write_bytes(b"x" * 40_000)
        handles = Handles()
        rows = [part(xid, 10 * xid, 0, 100, 10 * xid + 2) for xid in range(1, 7)]
        with trio.fail_after(LIMIT_S):
            async with trio.open_nursery() as nursery:
                await serve(handles, FileSink(handles.wiring(), path=str(path)), nursery, [])
                await handles.begin(1)
                for row in rows:
                    await handles.feed(row)
                await blocked(handles, os.strerror(errno.ENOSPC))
                ballast.unlink()
                await until_accepted(handles, 62, *rows)
                handles.inbox.close()
        assert ids(path) == [f"{xid}.{n}" for xid in range(1, 7) for n in range(100)]


# ---- stdout


async def test_a_reader_that_went_away_ends_the_pipeline_with_one_line() -> None:
    """Guards `deltaforge ... | head`: a closed pipe cannot come back, and is no crash."""
    handles = Handles()
    read_end, write_end = os.pipe()
    os.close(read_end)
    await handles.begin(1)
    await handles.feed(part(1, 10, 0, 1, 12))
    handles.epoch.set(0)
    with trio.fail_after(LIMIT_S), pytest.raises(Escalate) as ended:
        await StdoutSink(handles.wiring(), fd=write_end).run(ActorContext("sink"))
    os.close(write_end)
    assert isinstance(ended.value.cause, OperatorError)
    assert handles.receipts.value is None


@pytest.mark.fault("C5")
async def test_a_reader_that_does_not_read_holds_up_nothing_but_the_sink() -> None:
    """Guards the shutdown: a write into a full pipe must not keep the process from ending, nor tear a line."""
    handles = Handles()
    read_end, write_end = os.pipe()
    sink = StdoutSink(handles.wiring(), fd=write_end)
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(keep_running, lambda: sink, [])
            await handles.begin(1)
            await handles.feed(part(1, 10, 0, 5000, 12))
            await handles.gate.wait(lambda epoch: epoch == 1)
            while not sink._torn:  # noqa: ASYNC110 - set after a write to a pipe
                await trio.sleep(0.005)
            nursery.cancel_scope.cancel()
        assert handles.receipts.value is None
        with os.fdopen(read_end, "rb") as reader:  # noqa: ASYNC231 - the pipe does not block
            os.set_blocking(read_end, False)
            before = reader.read()
            handles.inbox = type(handles.inbox)(10)
            handles.inbox.close()
            await sink.open()
            await sink.make_durable()
            after = reader.read()
    os.close(write_end)
    assert not before.endswith(b"\n")
    assert after == b"\n"


async def test_an_error_that_only_a_person_can_mend_is_a_retry_not_a_crash(tmp_path: Path) -> None:
    """Guards the restart budget: a full disk must not use up the pipeline's crashes."""
    handles = Handles()
    with pytest.raises(Retry) as retry:
        await FileSink(handles.wiring(), path=str(tmp_path / "no" / "out")).run(ActorContext("sink"))
    assert retry.value.delay_s == 5
    assert handles.reports[-1][0] == "blocked"


@pytest.mark.fault("D1")
async def test_messages_and_odd_bytes_are_lines_too(tmp_path: Path) -> None:
    """Guards the format: one record, one line, whatever the bytes."""
    path = tmp_path / "out"
    handles = Handles()
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            await serve(handles, FileSink(handles.wiring(), path=str(path)), nursery, [])
            await handles.begin(1)
            await handles.feed(message(5))
            await handles.until_durable(5)
            handles.inbox.close()
    assert json.loads(path.read_text()) == {"topic": "t", "key": {"k": 1}, "value": {"id": "m.5"}}
