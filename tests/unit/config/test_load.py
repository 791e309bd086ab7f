"""Loading files and directories: all problems at once, by line; one bad file leaves the others alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deltaforge.config.load import LoadedPipeline, load_path
from deltaforge.config.problems import ConfigProblems
from deltaforge.config.schema import KafkaSink
from deltaforge.errors import ConfigError, Fault, policy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Load = Callable[..., LoadedPipeline]
    Problems = Callable[..., list[str]]


def test_the_minimal_file_loads_with_every_default(load: Load, minimal: str) -> None:
    """Guards against a default that is not valid itself."""
    pipeline = load(minimal).require()
    sink = pipeline.spec.sinks[0]
    assert isinstance(sink, KafkaSink)
    assert (sink.config.required, sink.config.exactly_once, sink.config.encoding) == (True, False, "json")
    assert sink.config.envelope.options.skipped == {"t"}
    assert pipeline.spec.batch.max_events == 10
    assert pipeline.spec.batch.max_ms == 100
    assert pipeline.spec.commit_policy.mode == "required"


def test_half_a_surrogate_pair_is_refused(problems: Problems, minimal: str) -> None:
    """Guards against a text that passes for one until it has to be sent somewhere."""
    for broken in (minimal.replace("publication: pub", r'publication: "\ud800"'), minimal.replace(": pub", ": ${PUB}")):
        assert problems(broken, PUB="a\udcff") == [
            "13: spec.source.config.publication: has half a surrogate pair in it, which is no character"
        ]


def test_all_problems_of_a_file_come_at_once_sorted_by_line(problems: Problems, minimal: str) -> None:
    """Guards against an operator who fixes one line per restart."""
    broken = (
        minimal.replace("name: orders", "name: or.ders")
        .replace("slot:", "slott:")
        .replace("postgres://", "mysql://")
        .replace("linger.ms", "lingr.ms")
        .replace("max_events: 10", "max_events: ten\n    max_ms: 0")
    )
    found = problems(broken)
    assert [line.split(":")[0] for line in found] == ["4", "9", "11", "12", "22", "24", "25"]
    assert "spec.source.config.slot: is missing" in found[1]
    assert "did you mean 'slot'?" in found[3]
    assert "did you mean 'linger.ms'?" in found[4]
    assert found[6] == "25: spec.batch.max_ms: has to be at least 1"


def test_a_problem_in_one_part_does_not_hide_the_rules_of_another(problems: Problems, minimal: str) -> None:
    """Guards against cross-checks that run only once everything else is right."""
    broken = minimal.replace("brokers: kafka:9092", "exactly_once: true").replace("linger.ms: 5", 'acks: "1"')
    assert [line.split(" (")[0] for line in problems(broken)] == [
        "17: spec.sinks[0].config.brokers: is missing",
        "22: spec.sinks[0].config.client_conf.acks: exactly_once: true needs acks: all",
    ]
    assert "see line 19" in problems(broken)[1]


def test_a_file_with_problems_has_no_pipeline_and_says_whose_fault_it_is(load: Load, minimal: str) -> None:
    """Guards against starting half a configuration, and against exit code 1 for a typing error."""
    loaded = load(minimal.replace("kind: Pipeline", "kind: Pipelin"))
    assert loaded.pipeline is None
    with pytest.raises(ConfigProblems, match=r"p\.yaml:2:7: kind: has to be Pipeline") as caught:
        loaded.require()
    assert policy(caught.value) is Fault.CONFIG
    assert "validate" in caught.value.hint


def test_a_directory_loads_every_file_and_a_bad_one_leaves_the_others_alone(tmp_path: Path, minimal: str) -> None:
    """Guards against one typing error that stops ten pipelines."""
    (tmp_path / "a.yaml").write_text(minimal)
    (tmp_path / "b.yml").write_text("kind: [")
    (tmp_path / "c.yaml").write_text(minimal.replace("name: orders", "name: other"))
    (tmp_path / "notes.txt").write_text("not a pipeline")
    loaded = load_path(tmp_path, {})
    assert [item.path.name for item in loaded] == ["a.yaml", "b.yml", "c.yaml"]
    assert [item.pipeline is not None for item in loaded] == [True, False, True]
    assert [item.error is None for item in loaded] == [True, False, True]


def test_a_file_that_cannot_be_read_leaves_the_others_of_its_directory_alone(tmp_path: Path, minimal: str) -> None:
    """Guards against one file with wrong permissions that stops ten pipelines."""
    # Reading one's own memory from address 0 fails, also for root.
    (tmp_path / "a.yaml").symlink_to("/proc/self/mem")
    (tmp_path / "b.yaml").write_text(minimal)
    first, second = load_path(tmp_path, {})
    assert first.error is not None
    assert "cannot read" in first.error.problems[0].message
    assert second.pipeline is not None


@pytest.mark.parametrize("line", ["k{}: x\n", "- k{}\n", "metadata: {{k{}: x}}\n"])
def test_a_large_file_full_of_mistakes_is_answered_with_the_first_ones(load: Load, line: str) -> None:
    """Guards against minutes of looking for the nearest name of thousands of keys."""
    error = load("".join(line.format(n) for n in range(5_000))).error
    assert error is not None
    assert len(error.problems) <= 400


def test_two_files_with_one_pipeline_name_are_refused(tmp_path: Path, minimal: str) -> None:
    """Guards against two pipelines that share a transactional id and a checkpoint topic."""
    (tmp_path / "a.yaml").write_text(minimal)
    (tmp_path / "b.yaml").write_text(minimal)
    first, second = load_path(tmp_path, {})
    assert first.pipeline is not None
    assert second.error is not None
    assert second.error.problems[0][:3] == (4, 3, "metadata.name")
    assert "a.yaml" in second.error.problems[0].message


def test_a_path_with_nothing_to_load_is_an_error_that_names_it(tmp_path: Path) -> None:
    """Guards against a service that runs without any pipeline and says nothing."""
    with pytest.raises(ConfigError, match=r"no \.yaml"):
        load_path(tmp_path, {})
    with pytest.raises(ConfigError, match="No such file"):
        load_path(tmp_path / "missing.yaml", {})


def test_sink_ids_are_unique_and_the_message_has_both_lines(problems: Problems, minimal: str) -> None:
    """Guards against two sinks that share one checkpoint topic."""
    twice = minimal.replace("  batch:", "    - {type: stdout, config: {id: k1}}\n  batch:")
    assert problems(twice) == ["23: spec.sinks[1].config.id: another sink has the same id (see line 18)"]


@pytest.mark.parametrize(
    ("policy_text", "expected"),
    [
        ("{mode: all}", []),
        ("{mode: quorum, quorum: 1}", []),
        ("{mode: quorum}", ["quorum needs a number"]),
        ("{mode: quorum, quorum: }", ["quorum needs a number"]),
        ("{mode: quorum, quorum: 2}", ["more than the number of sinks (1)"]),
        ("{mode: quorum, quorum: 0}", ["has to be at least 1"]),
        ("{mode: all, quorum: 1}", ["has no meaning with mode all"]),
        ("{mode: requird}", ["did you mean 'required'?"]),
    ],
)
def test_a_commit_policy_that_cannot_work_is_refused(
    problems: Problems, minimal: str, policy_text: str, expected: list[str]
) -> None:
    """Guards against a quorum that is never reached: the slot would grow until the disk is full."""
    found = problems(minimal + f"  commit_policy: {policy_text}\n")
    assert len(found) == len(expected)
    assert all(text in line for text, line in zip(expected, found, strict=True))


def test_required_without_a_required_sink_is_refused(problems: Problems, minimal: str) -> None:
    """Guards against confirming WAL that no sink has stored."""
    found = problems(minimal.replace("id: k1", "id: k1\n        required: false"))
    assert len(found) == 1
    assert "every sink has required: false" in found[0]


def test_a_tenant_template_without_a_tenant_is_refused(problems: Problems, minimal: str) -> None:
    """Guards against topics called `.orders`."""
    templated = minimal.replace("topic: orders.cdc", "topic: ${tenant_id}.${source.table}")
    assert problems(templated) == []
    assert "metadata.tenant is not set" in problems(templated.replace("  tenant: acme\n", ""))[0]


def test_an_empty_section_means_its_defaults(load: Load, minimal: str) -> None:
    """Guards against a crash, or a riddle, when all fields of a section are commented out."""
    assert load(minimal.replace("    max_events: 10", "    # max_events: 10")).require().spec.batch.max_events == 1000
