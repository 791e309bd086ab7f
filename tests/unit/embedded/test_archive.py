"""The archive of Kafka's classes: what starts with it, and without it, is the same."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from deltaforge.embedded import archive, prepare
from deltaforge.embedded.errors import EmbeddedError
from deltaforge.embedded.jars import class_path
from deltaforge.embedded.kafka import KafkaCluster

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def jars(kafka_jars: None) -> list[Path]:
    """Kafka's own."""
    return class_path()


@pytest.fixture
def cache(jars: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache without an archive, for this test alone; the jars stay where they are."""
    monkeypatch.setattr(archive, "cache_root", lambda: tmp_path)
    (tmp_path / "jars").mkdir()
    return tmp_path


def test_an_archive_is_for_one_class_path(cache: Path, jars: list[Path]) -> None:
    """Guards against classes of another version, and against an option for a file that is not there."""
    assert archive.options(jars) == []
    archive.place(jars).touch()
    assert f"-XX:AOTCache={archive.place(jars)}" in archive.options(jars)
    assert archive.options(jars[1:]) == []


def test_an_archive_is_for_one_fetch_of_a_jar(cache: Path, tmp_path: Path) -> None:
    """Guards against an archive that Java refuses at every start, because a jar was fetched again into its place."""
    jar = tmp_path / "a.jar"
    jar.touch()
    archive.place([jar]).touch()
    os.utime(jar, (1, 1))
    assert archive.options([jar]) == []


def test_an_archive_that_does_not_fit_changes_nothing(cache: Path, jars: list[Path]) -> None:
    """Guards against a start that fails over another Java's file, and Java's complaints among a program's answers."""
    archive.place(jars).write_bytes(b"no archive" * 10_000)
    said = KafkaCluster().run_tool("kafka.tools.StorageTool", "random-uuid")
    assert len(said.split()) == 1


def test_an_archive_that_cannot_be_made_is_told_and_gone_without(
    cache: Path, jars: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a convenience that keeps the servers from starting."""

    def fails(self: KafkaCluster) -> None:
        raise EmbeddedError("no room")

    monkeypatch.setattr(KafkaCluster, "start", fails)
    said: list[str] = []
    prepare.prepare(said.append)
    assert said[-1] == "no archive of Kafka's classes: no room"
    assert archive.options(jars) == []
    assert not list((cache / "jars").glob("*.aot"))
