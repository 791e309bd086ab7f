"""Table patterns."""

from __future__ import annotations

import pytest

from deltaforge.source import tables


@pytest.mark.parametrize(
    ("pattern", "schema", "table", "expected"),
    [
        ("public.orders", "public", "orders", True),
        ("public.orders", "public", "orders_2", False),
        ("public.orders", "publicx", "orders", False),
        ("public.order_items", "public", "orderXitems", False),
        ("public.order%", "public", "orders", True),
        ("public.order%", "public", "order", True),
        ("public.order%", "public", "my_orders", False),
        ("public.%", "public", "", True),
        ("pub%.orders", "public", "orders", True),
        ("%.%", "any", "thing", True),
        ("public.Orders", "public", "orders", False),
        ("public.a.b", "public", "a.b", True),
    ],
)
def test_pattern_means_exactly_these_tables(pattern: str, schema: str, table: str, expected: bool) -> None:
    """`_` as a wildcard streams tables nobody asked for."""
    assert tables.matches(pattern, schema, table) is expected


def test_only_exact_names_can_be_lacking() -> None:
    """A pattern that matches nothing yet is no error; a named table is."""
    patterns = ("public.orders", "public.payments", "audit.%")

    assert tables.lacking(patterns, [("public", "orders")]) == ("public.payments",)


def test_selected_is_true_for_any_pattern() -> None:
    """Only the first pattern is looked at."""
    assert tables.selected(("a.b", "public.%"), "public", "x")
    assert not tables.selected(("a.b", "public.%"), "other", "x")
