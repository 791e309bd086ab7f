"""The manual's page on failure modes, printed from the matrix and the marks so that it cannot lie.

`python -m tests.fault --page > docs/explanation/failure-modes.md` writes it; a test holds the two equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.fault.matrix import EXPECTED, GROUPS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.fault.marks import Coverage
    from tests.fault.matrix import Row

_INTRODUCTION: Final = """\
# Failure modes

<!-- Written by `python -m tests.fault --page`; change tests/fault/rows/*.toml and the marks of tests instead. -->

Every fault that was thought of: what deltaforge does, what you see, and the tests that do it, most of them to the real
process on real servers, or why none does. Words such as position, epoch and checkpoint are explained in
[Delivery](delivery.md), states in the [HTTP API](../reference/http-api.md#pipeline-states), refusals and what to do
about them in [Recover](../howto/recover.md).

What holds for every row, unless it says otherwise: nothing committed is lost, doubled, reordered or torn for
`read_committed` consumers of a Kafka sink with `exactly_once: true`; nothing is confirmed to PostgreSQL before it is
durable; `/health`, the exit code and the log name what is wrong; no password is in any of them.
"""

_RUN: Final = """\
## Run it yourself

From a clone, after `pip install -e ".[test]"`:

```
python -m tests.fault --quick
```

runs the quick variants of these tests in at most ten minutes. Without `--quick` every test runs at full size, and then
faults at random for ten minutes; `--minutes N` does random faults alone. `--only K1,P21` runs single rows, `--seed N`
makes the same decisions again, `--json FILE` writes everything that was found. More in
[tests/README.md](../../tests/README.md#faults).
"""


def page(rows: Mapping[str, Row], covered: Mapping[str, Coverage]) -> str:
    """The whole page as Markdown."""
    parts = [_INTRODUCTION, _counts(rows, covered), _RUN]
    for group in GROUPS:
        some = [row for row in rows.values() if row.id[0] == group.letter]
        parts.append("\n".join(_section(group.title, some, covered)))
    return "\n".join(parts)


def _counts(rows: Mapping[str, Row], covered: Mapping[str, Coverage]) -> str:
    tested = [row for row in rows.values() if not row.not_run]
    distinct = {(test.file, test.test) for coverage in covered.values() for test in coverage.tests}
    part = sum(bool(row.left_out) for row in tested)
    return (
        f"Of {len(rows)} rows {len(tested)} are tested, {part} of them in part, by {len(distinct)} tests and a storm "
        f"of random faults; {len(rows) - len(tested)} are not.\n"
    )


def _section(title: str, rows: Sequence[Row], covered: Mapping[str, Coverage]) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    yield "| | fault | right is | what deltaforge does | what you see | tested by |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        cells = (row.id, row.fault, EXPECTED[row.expected], row.does, row.sees, _tested(row, covered[row.id]))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


def _tested(row: Row, coverage: Coverage) -> str:
    if row.not_run:
        return f"not tested: {row.not_run}"
    names = [f"[{test.words}](../../{test.file})" for test in coverage.tests]
    names += ["[the storm](../../tests/nemesis/storm.py)"] if coverage.storm else []
    return "; ".join(names) + (f". Left out: {row.left_out}" if row.left_out else "")
