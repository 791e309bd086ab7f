"""The fault matrix, the marks of the tests and the page of failure modes say the same."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.fault.marks import Marked, by_row, contradictions, marked
from tests.fault.matrix import ROWS_DIRECTORY, MatrixError, chosen, load
from tests.fault.page import page
from tests.fault.storm import storm_rows
from tests.support.pages import PAGES

if TYPE_CHECKING:
    from pathlib import Path

ROWS = load()
SIZES = {"P": 27, "K": 19, "N": 8, "G": 19, "D": 5, "C": 5, "X": 7}
OVER_A_TEST = '@pytest.mark.fault("P4")\ndef test_a() -> None: ...\n'
IN_A_PARAMETER = '@pytest.mark.parametrize("n", [pytest.param(1, marks=pytest.mark.fault("P4"))])\ndef test_a(n): ...\n'
OF_A_MODULE = 'pytestmark = pytest.mark.fault("P4")\ndef test_a() -> None: ...\n'


def test_every_row_has_a_test_or_a_reason_why_there_is_none() -> None:
    """Guards against a fault that everybody believes somebody tests, and a mark that names no row."""
    covered = by_row(ROWS, marked(), storm_rows())
    assert covered.keys() == ROWS.keys()
    assert contradictions(ROWS, covered) == []


def test_the_page_is_what_matrix_and_marks_say() -> None:
    """Guards against a manual that lies. Print it: python -m tests.fault --page > docs/explanation/failure-modes.md"""
    assert PAGES["docs/explanation/failure-modes.md"] == page(ROWS, by_row(ROWS, marked(), storm_rows()))


def test_no_row_is_lost() -> None:
    """Guards against a row that disappears because nobody could make it pass."""
    assert {letter: sum(name[0] == letter for name in ROWS) for letter in SIZES} == SIZES


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("[X8]\nfault = 'f'\nexpected = 'R'\ndoes = 'd'", "lacks sees"),
        ("[X8]\nfault = 'f'\nexpected = 'S'\ndoes = 'd'\nsees = 's'", "expected is one of R, H, RH"),
        ("[X8]\nfault = 'f'\nexpected = 'R'\ndoes = 'd'\nsees = 's'\nleftout = 'l'", "unknown leftout"),
        ("[X8]\nfault = 'f'\nexpected = 'R'\ndoes = 'd'\nsees = 's'\nleft_out = 'l'\nnot_run = 'n'", "not run at all"),
        ("[X9]\nfault = 'f'\nexpected = 'R'\ndoes = 'd'\nsees = 's'", "X1, X2, ..."),
        ("[K8]\nfault = 'f'\nexpected = 'R'\ndoes = 'd'\nsees = 's'", "K8: not a row of misuse.toml"),
        ("[X8", "misuse.toml"),
    ],
)
def test_a_row_that_says_too_little_is_refused(wrong: str, says: str, tmp_path: Path) -> None:
    """Guards against a row without an answer, and a misspelt field that is simply not shown."""
    shutil.copytree(ROWS_DIRECTORY, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "misuse.toml"
    file.write_text(f"{file.read_text()}\n{wrong}\n")
    with pytest.raises(MatrixError, match=says):
        load(tmp_path)


def test_a_row_with_both_or_neither_is_told() -> None:
    """Guards against a reason that outlives the first test of its row, and a row that nobody answers for."""
    some = {name: ROWS[name] for name in ("P4", "P15")}
    test, both = Marked("tests/test_a.py", "test_a", ("P4",)), Marked("tests/test_a.py", "test_a", ("P4", "P15"))
    assert by_row(some, [test])["P4"].tests == (test,)
    assert contradictions(some, by_row(some, [test])) == []
    assert contradictions(some, by_row(some, [])) == ["P4: neither a test nor a reason (`not_run`)"]
    twice = ["P15: a test and a reason why there is none; remove `not_run`"]
    assert contradictions(some, by_row(some, [both])) == twice
    assert contradictions(some, by_row(some, [test], {"P15"})) == twice


def test_an_unknown_id_is_refused() -> None:
    """Guards against a misspelt row that nothing is run for, in a mark, in the storm and on the command line."""
    with pytest.raises(MatrixError, match="test_a is marked with P99, which no row is"):
        by_row(ROWS, [Marked("tests/test_a.py", "test_a", ("P99",))])
    with pytest.raises(MatrixError, match="the storm has faults of P98"):
        by_row(ROWS, [], {"P98"})
    with pytest.raises(MatrixError, match="no row P97; there are P1, P2,"):
        chosen(ROWS, ["P1", "P97"])
    assert list(chosen(ROWS, ["X1", "P1"])) == ["P1", "X1"]


@pytest.mark.parametrize("text", [OVER_A_TEST, IN_A_PARAMETER, OF_A_MODULE])
def test_marks_are_read_where_pytest_sees_them(text: str, tmp_path: Path) -> None:
    """Guards against a test that runs a row and is not named for it."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_x.py").write_text(text)
    assert marked(tmp_path / "tests") == (Marked("tests/test_x.py", "test_a", ("P4",)),)


@pytest.mark.parametrize(
    "text",
    [
        'MARK = pytest.mark.fault("P4")\n\n@MARK\ndef test_a() -> None: ...\n',
        'ROW = "P4"\n\n@pytest.mark.fault(ROW)\ndef test_a() -> None: ...\n',
        "@pytest.mark.fault()\ndef test_a() -> None: ...\n",
    ],
)
def test_a_mark_that_would_be_overlooked_is_refused(text: str, tmp_path: Path) -> None:
    """Guards against a page that knows less than pytest."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_x.py").write_text(text)
    with pytest.raises(MatrixError, match=r"tests/test_x\.py"):
        marked(tmp_path / "tests")
