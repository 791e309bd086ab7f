"""schemathesis makes requests out of the OpenAPI document, of a real process, and looks at what comes back.

`DELTAFORGE_SCHEMA_EXAMPLES` makes it try longer, `DELTAFORGE_SEED` otherwise.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from deltaforge.admin.guard import TOKEN_VARIABLE
from deltaforge.embedded.ports import HOST
from tests.support.canaries import canary
from tests.support.orders import wait_until
from tests.support.pipelines import local, write
from tests.support.process import Deltaforge

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = os.environ.get("DELTAFORGE_SCHEMA_EXAMPLES", "10")
SEED = os.environ.get("DELTAFORGE_SEED", "7")
WAIT_S = 600.0
NAME = "orders-to-kafka-prod"
TOKEN = canary("API token")
OPEN = {"/health", "/ready", "/metrics"}

pytestmark = [pytest.mark.slow, pytest.mark.fault("X3")]


class Answer(NamedTuple):
    """What schemathesis was told, of one request."""

    method: str
    path: str
    authorized: bool
    code: int
    text: str


@pytest.fixture(params=[TOKEN, ""], ids=["with a token", "without"])
def token(request: pytest.FixtureRequest) -> str:
    """The token that the process is given; empty for none."""
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture
def product(token: str, tmp_path: Path) -> Iterator[Deltaforge]:
    """A process whose pipeline has no servers; what it says about that is as good as anything else."""
    file = write(tmp_path / "pipeline.yaml", local(NAME, "orders"))
    nowhere = {"POSTGRES_DSN": f"postgresql://cdc@{HOST}:1/orders", "KAFKA_BROKERS": f"{HOST}:1"}
    with Deltaforge(file, nowhere | ({TOKEN_VARIABLE: token} if token else {}), name="schemathesis") as made:
        wait_until(lambda: made.ask("/health")[0] != 0, "the admin HTTP answers", lambda: None)
        yield made


def attack(product: Deltaforge, document: Path, report: Path, *options: str) -> list[Answer]:
    """Every answer of a run with all phases and checks. Raises AssertionError when a check fails."""
    tool = Path(sys.executable).with_name("schemathesis")
    command = [
        str(tool), "run", str(document), "--url", f"http://{HOST}:{product.port}", "--phases",
        "examples,coverage,fuzzing,stateful", "--checks", "all", "--max-examples", EXAMPLES, "--seed", SEED,
        "--continue-on-failure", "--no-color", "--output-truncate", "false",
        # Judged by the test: 503 is an answer of /ready.
        "--exclude-checks", "not_a_server_error", "--report", "har", "--report-har-path", str(report), *options,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, cwd=document.parent, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [_answer(entry) for entry in json.loads(report.read_text())["log"]["entries"]]


def _answer(entry: dict[str, Any]) -> Answer:
    asked, answered = entry["request"], entry["response"]
    sent = any(header["name"].lower() == "authorization" for header in asked["headers"])
    path, text = urlsplit(asked["url"]).path, answered["content"].get("text", "")
    return Answer(asked["method"], path, sent, answered["status"], text)


def test_nothing_that_follows_from_the_document_breaks_the_server(
    product: Deltaforge, token: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards against 5xx, answers the document does not know, and pages that open without the token."""
    code, body = product.ask("/openapi.json", token=token)
    assert code == 200
    (document := tmp_path / "openapi.json").write_bytes(body)

    header = ["--header", f"Authorization: Bearer {token}"] if token else []
    found = {"": attack(product, document, tmp_path / "report.har", *header)}
    if token:
        found["without the token"] = attack(product, document, tmp_path / "without.har")
        _opens_nothing(found["without the token"])

    with capsys.disabled():
        for how, answers in found.items():
            codes = Counter(answer.code for answer in answers)
            print(f"\nschemathesis {how or 'as a friend'}: {dict(sorted(codes.items()))}")
    for answers in found.values():
        assert {answer.path for answer in answers} >= {*OPEN, "/pipelines", "/openapi.json", f"/pipelines/{NAME}"}
        wrong = [one for one in answers if one.code >= 500 and not (one.code == 503 and one.path in OPEN)]
        assert not wrong
    assert product.running
    assert "Traceback" not in product.text()


def _opens_nothing(answers: list[Answer]) -> None:
    for answer in answers:
        if answer.path in OPEN:
            assert NAME not in answer.text
            assert "postgres" not in answer.text
        elif answer.method != "OPTIONS":
            assert answer.code >= 400, answer
