"""What the reader of YAML refuses before a value means anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deltaforge.config.yamltext import MAX_BYTES, Mapping, Scalar, read

if TYPE_CHECKING:
    from collections.abc import Callable

    from deltaforge.config.load import LoadedPipeline

    Problems = Callable[..., list[str]]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (b"a: &x 1\nb: 2", 1, "anchors"),
        (b"a: 1\nb: *x", 2, "aliases"),
        (b"a: 1\n<<: {b: 2}", 2, "merge keys"),
        (b"a: 1\nb: !!python/object:os.system x", 2, "tags"),
        (b"a: 1\nb: !secret x", 2, "tags"),
        (b"a: 1\n---\nb: 2", 2, "more than one document"),
        (b"a: 1\na: 2", 2, "duplicate key 'a', first on line 1"),
        (b"a: 1\n? [x]\n: 2", 2, "a key has to be text"),
        (b"a: 1\nb: \xff", 2, "not UTF-8"),
        (b"a: 1\nb: \x01", 2, "does not allow"),
        (b"a: [1\nb: 2", 2, "not valid YAML"),
        (b"[" * 100_000, 1, "levels deep"),
        (b"", 1, "empty"),
        (b"# nothing but a comment\n", 1, "empty"),
        (b"a" * (MAX_BYTES + 1), 1, "larger than"),
    ],
)
def test_text_that_is_not_plain_configuration_is_refused_with_its_line(text: bytes, line: int, message: str) -> None:
    """Guards against alias bombs, hidden values and objects made by a YAML tag."""
    _, problems = read(text)
    assert [(problem.line, message in problem.message) for problem in problems] == [(line, True)]


def test_an_alias_makes_one_problem_and_not_a_second_one_about_its_value(problems: Problems, minimal: str) -> None:
    """Guards against two lines for one mistake."""
    assert len(problems(minimal.replace("slot: df_orders", "slot: *x"))) == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("no", "no"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("0777", "0777"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        (".inf", ".inf"),
        ("true", True),
        ("False", False),
        ("-12", -12),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("~", None),
        ("'12'", "12"),
        ('"true"', "true"),
    ],
)
def test_plain_scalars_are_read_as_yaml_1_2_has_them(text: str, value: object) -> None:
    """Guards against `no` for a tenant, or a port read as a number of minutes."""
    node, problems = read(f"a: {text}".encode())
    assert problems == []
    assert isinstance(node, Mapping)
    leaf = node.entries[0].node
    assert isinstance(leaf, Scalar)
    assert leaf.value == value
    assert type(leaf.value) is type(value)


@pytest.mark.parametrize(
    "line",
    [
        "sasl.password: !canary-pw!x",
        "sasl.password: &canary-pw",
        "sasl.password: *canary-pw",
        "sasl.password: %canary-pw",
        "sasl.password: 'canary-pw",
        "sasl.password: @canary-pw",
        "sasl.password: [canary-pw",
        'sasl.password: "canary-pw\\q"',
        "sasl.password: a: canary-pw",
        "sasl.password: {canary-pw: 1}",
        "sasl.password: [canary-pw]",
        "sasl.password:canary-pw",
        "canary-pw",
        "{canary pw@: 1}",
    ],
)
def test_a_password_with_bad_yaml_around_it_is_not_quoted(
    load: Callable[..., LoadedPipeline], minimal: str, line: str
) -> None:
    """Guards against the scanner's messages, which quote what they trip over."""
    error = load(minimal.replace("linger.ms: 5", line)).error
    assert error is not None
    assert "canary" not in str(error)
    assert "canary" not in repr(error)
