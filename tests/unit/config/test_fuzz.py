"""Whatever is in a file, loading it ends with a pipeline or with problems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaforge.config.load import load_bytes
from deltaforge.sinks.kafka.client_conf import check_client_conf

FIELDS = (
    "apiVersion kind metadata name tenant spec source type config id dsn slot publication tables sinks brokers topic "
    "envelope options client_conf acks linger.ms sasl.password sasl.mechanism batch max_events commit_policy mode "
    "quorum exactly_once create_topics partitions snapshot processors security.protocol"
)
NAMES = st.sampled_from(FIELDS.split())
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        [
            "deltaforge/v1",
            "Pipeline",
            "postgres",
            "kafka",
            "file",
            "${A}",
            "${a.b}",
            "${",
            "postgres://u:p@h/d",
            "a.b",
            "all",
        ]
    )
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=8), inner, max_size=6),
    max_leaves=25,
)


def load(data: bytes) -> None:
    loaded = load_bytes(data, Path("x.yaml"), {"A": "x"}, sink_checks=[check_client_conf])
    assert (loaded.pipeline is None) != (loaded.error is None)
    if loaded.error is not None:
        assert all(problem.line >= 1 and problem.column >= 1 for problem in loaded.error.problems)
        assert loaded.error.problems == tuple(sorted(loaded.error.problems))
        # The last resort of the loader: the schema refused what the walk had let pass.
        assert not any("does not fit the schema" in problem.message for problem in loaded.error.problems)


@given(st.binary(max_size=200) | st.text(alphabet="{}[]:,-&*!|>'\"%@` \n#a1?<~$", max_size=80).map(str.encode))
def test_any_bytes_end_in_problems_with_a_place(data: bytes) -> None:
    """Guards against a traceback for a broken file."""
    load(data)


@given(TREES)
def test_any_tree_of_values_ends_in_problems_with_a_place(tree: Any) -> None:
    """Guards against a walk that takes a shape for granted."""
    load(msgspec.json.encode(tree, enc_hook=repr))


@st.composite
def nearly_right(draw: st.DrawFn) -> dict[str, Any]:
    """A pipeline with a few parts replaced by anything."""
    kafka = {"id": "k", "brokers": "k:1", "topic": "t", "client_conf": draw(st.dictionaries(NAMES, LEAVES, max_size=4))}
    tree: dict[str, Any] = {
        "apiVersion": "deltaforge/v1",
        "kind": "Pipeline",
        "metadata": {"name": "n"},
        "spec": {
            "source": {
                "type": "postgres",
                "config": {"id": "p", "dsn": "postgres://h/d", "slot": "s", "publication": "p", "tables": ["a.b"]},
            },
            "sinks": [{"type": "kafka", "config": kafka}],
        },
    }
    sections = [tree, tree["metadata"], tree["spec"], tree["spec"]["source"], tree["spec"]["source"]["config"], kafka]
    for _ in range(draw(st.integers(0, 3))):
        section = draw(st.sampled_from(sections))
        section[draw(st.sampled_from(sorted(section)) | NAMES)] = draw(TREES)
    return tree


@pytest.mark.fault("C2")
@settings(max_examples=300)
@given(nearly_right())
def test_a_nearly_right_file_ends_in_problems_with_a_place(tree: dict[str, Any]) -> None:
    """Guards against rules between fields that meet a missing one, and against a walk milder than the schema."""
    load(msgspec.json.encode(tree, enc_hook=repr))
