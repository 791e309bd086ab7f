"""`python -m tests.model`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.__main__ import CLEAN, TROUBLE, UNABLE, main
from tests.model.mutants import MUTANTS
from tests.model.runs import RUNS

if TYPE_CHECKING:
    import pytest

FOUND = "confirm before commit"


def test_a_found_mutant_is_shown_with_the_shortest_way_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards the tool with which a counterexample is read."""
    assert main(["--run", FOUND, "--trace"]) == CLEAN
    said = capsys.readouterr().out
    assert said.startswith("found I9")
    assert "confirms 12" in said


def test_a_mutant_that_gets_away_ends_in_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards against a command that is content with whatever it finds."""
    monkeypatch.setattr("tests.model.__main__.MUTANTS", {FOUND: MUTANTS["< for <="]._replace(caught_by="I7")})
    assert main(["--mutants"]) == TROUBLE
    assert capsys.readouterr().out.startswith("WRONG I7")


def test_a_name_that_nothing_has_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against taking a mistyped name for a run that holds."""
    assert main(["--run", "no such run"]) == UNABLE
    assert "--list" in capsys.readouterr().err


def test_the_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against runs that nobody can choose."""
    assert main(["--list"]) == CLEAN
    assert len(capsys.readouterr().out.splitlines()) == len(RUNS) + len(MUTANTS)
