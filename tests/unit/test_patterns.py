"""Regular expressions of options: what matches, and what is refused."""

from __future__ import annotations

import pytest

from deltaforge.patterns import PatternError, any_of, compiled, key_choices


def test_an_expression_has_to_match_the_whole_name_in_any_case() -> None:
    """Guards against `public.a` that also takes `public.ab`, and against names told apart by their case."""
    matches = any_of("o", r"public\.a, shop\..*")
    assert matches("public.a")
    assert matches("PUBLIC.A")
    assert matches("shop.x.y")
    assert not matches("public.ab")
    assert not matches("xpublic.a")


def test_letters_are_those_of_ascii_as_in_java() -> None:
    """Guards against Python's wider idea of a letter."""
    assert not any_of("o", r"\w+")("straße")
    assert any_of("o", r"a\,b")("a,b")


@pytest.mark.parametrize("pattern", ["(", "*", "(?P<x>a)", "[a&&[b]]", "[[a]]", r"\p{Alpha}", "(?(1)a|b)"])
def test_an_expression_that_the_two_languages_do_not_share_is_refused(pattern: str) -> None:
    """Guards against a filter that quietly takes other names than it does in Debezium."""
    with pytest.raises(PatternError):
        compiled(pattern)


def test_key_columns_become_one_expression_each_in_the_order_written() -> None:
    """Guards against keys in the table's order, or an entry that is lost."""
    found = [pattern.pattern for pattern in key_choices("a.t:y,x; (.*).u u:z;")]
    assert found == ["a.t.y", "a.t.x", "(.*).u u.z"]


@pytest.mark.parametrize("text", ["", "a.t", "a.t:", ":x", "a.t:x:y", "a.t:x;;b.t:y", "(:x"])
def test_key_columns_of_another_form_are_refused(text: str) -> None:
    """Guards against a table whose key silently stays as it was."""
    with pytest.raises(PatternError):
        key_choices(text)
