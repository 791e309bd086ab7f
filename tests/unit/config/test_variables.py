"""Environment variables and templates in strings, after the file has been read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deltaforge.config.schema import KafkaSink
from deltaforge.config.secret import Secret, secrets_in_use
from deltaforge.config.templates import TemplateError, TopicTemplate

if TYPE_CHECKING:
    from collections.abc import Callable

    from deltaforge.config.load import LoadedPipeline
    from deltaforge.config.schema import KafkaSinkConfig

    Load = Callable[..., LoadedPipeline]
    Problems = Callable[..., list[str]]


def kafka(loaded: LoadedPipeline) -> KafkaSinkConfig:
    sink = loaded.require().spec.sinks[0]
    assert isinstance(sink, KafkaSink)
    return sink.config


@pytest.mark.parametrize(
    ("written", "env", "expected"),
    [
        ("${B}", {"B": "a:1"}, "a:1"),
        ("x${B}y", {"B": "-"}, "x-y"),
        ("${B:-c:2}", {}, "c:2"),
        ("${B:-c:2}", {"B": ""}, "c:2"),
        ("${B:-c:2}", {"B": "a:1"}, "a:1"),
        ("${B}", {"B": "${C}"}, "${C}"),
        ("${B}", {"B": "k: v # [x]"}, None),
        ("$B", {"B": "a"}, "$B"),
    ],
)
def test_variables_are_put_in_once_and_never_read_as_yaml(
    load: Load, minimal: str, written: str, env: dict[str, str], expected: str | None
) -> None:
    """Guards against a variable that adds fields to the file, or is expanded again."""
    loaded = load(minimal.replace("brokers: kafka:9092", f'brokers: "{written}"'), **env)
    if expected is None:
        assert loaded.error is not None
    else:
        assert kafka(loaded).brokers == expected


def test_an_unset_variable_is_a_problem_on_its_line_that_says_what_to_export(problems: Problems, minimal: str) -> None:
    """Guards against connecting to a host named `${KAFKA_BROKERS}`."""
    found = problems(minimal.replace("kafka:9092", "${KAFKA_BROKERS},${OTHER}"))
    assert [line.split(" (")[0] for line in found] == [
        "19: spec.sinks[0].config.brokers: environment variable KAFKA_BROKERS is not set",
        "19: spec.sinks[0].config.brokers: environment variable OTHER is not set",
    ]


def test_an_unset_password_is_one_problem_and_not_missing_as_well(problems: Problems, minimal: str) -> None:
    """Guards against advice to add a line that is already there."""
    conf = ["security.protocol: ${P}", "sasl.mechanism: PLAIN", "sasl.username: ${U}", "sasl.password: ${W}"]
    found = problems(minimal.replace("linger.ms: 5", "\n          ".join(conf)), P="SASL_SSL")
    assert [line.split(": ")[0] for line in found] == ["24", "25"]
    assert len(problems(minimal.replace("linger.ms: 5", "\n          ".join(conf)), U="u", W="w")) == 1


def test_a_variable_fills_numbers_and_truth_values_too(load: Load, minimal: str) -> None:
    """Guards against `max_events: ${N}` refused for being text."""
    text = minimal.replace("max_events: 10", "max_events: ${N}\n    respect_source_tx: ${R:-false}")
    batch = load(text, N="77").require().spec.batch
    assert (batch.max_events, batch.respect_source_tx) == (77, False)


@pytest.mark.parametrize("written", ["${", "${}", "${B", "${1}", "${B-x}", "${B:=x}", "${file:/etc/passwd}", "${a b}"])
def test_other_things_in_braces_are_refused(problems: Problems, minimal: str, written: str) -> None:
    """Guards against passing an unexpanded text on."""
    found = problems(minimal.replace("kafka:9092", f'"{written}"'), B="x")
    assert len(found) == 1
    assert "without a valid name" in found[0]


def test_templates_are_possible_in_topic_and_key_only(load: Load, problems: Problems, minimal: str) -> None:
    """Guards against a slot called `${source.table}`."""
    topic = "${PREFIX}.${source.schema}.${source.table}"
    loaded = load(minimal.replace("topic: orders.cdc", f"topic: {topic}"), PREFIX="cdc")
    assert str(kafka(loaded).topic) == "cdc.${source.schema}.${source.table}"
    found = problems(minimal.replace("slot: df_orders", "slot: ${source.table}"))
    assert len(found) == 1
    assert "in topic and key only" in found[0]


def test_a_variable_cannot_smuggle_a_template_into_the_topic(problems: Problems, minimal: str) -> None:
    """Guards against a second pass over what a variable said."""
    assert "letters, digits" in problems(minimal.replace("topic: orders.cdc", "topic: ${T}"), T="${source.table}")[0]


@pytest.mark.parametrize(
    ("raw", "one_table_each", "constant"),
    [
        ("orders", False, True),
        ("${tenant_id}.x", False, True),
        ("${source.table}", False, False),
        ("${source.db}.${source.schema}.${source.table}", True, False),
        ("orders.${op}", False, False),
        ("${after.id}.${source.schema}.${source.table}", True, False),
    ],
)
def test_a_template_knows_whether_tables_can_meet_in_a_topic(raw: str, one_table_each: bool, constant: bool) -> None:
    """Guards against compaction that merges order 1 with payment 1."""
    template = TopicTemplate.parse(raw)
    assert (template.one_table_each, template.constant) == (one_table_each, constant)
    assert TopicTemplate.parse(str(template)) == template


@pytest.mark.parametrize("raw", ["", "${op.x}", "${before.}", "${source.tabel}", "${ENV}x y", "a" * 250])
def test_a_topic_that_cannot_work_is_refused(raw: str) -> None:
    """Guards against records without a topic."""
    with pytest.raises(TemplateError):
        TopicTemplate.parse(raw)


def test_a_password_of_digits_without_quotes_stays_as_written(load: Load, minimal: str) -> None:
    """Guards against a password 0012 that becomes 12, and one that is no secret because it looks like a number."""
    text = minimal.replace("linger.ms: 5", "sasl.password: 4711.10\n          sasl.username: 12")
    loaded = load(
        text.replace(
            "sasl.username", "security.protocol: SASL_SSL\n          sasl.mechanism: PLAIN\n          sasl.username"
        )
    )
    password = kafka(loaded).client_conf["sasl.password"]
    assert isinstance(password, Secret)
    assert password.reveal() == "4711.10"


def test_variables_under_secret_and_misspelt_names_are_covered_in_logs(load: Load, minimal: str) -> None:
    """Guards against the password of a mistyped `sasl.pasword` in a log, and against covering the word SASL_SSL."""
    text = minimal.replace(
        "linger.ms: 5",
        "\n          ".join(
            ["sasl.pasword: ${A}", "sasl.username: ${B}", "security.protocol: ${C}", "sasl.password: ${D}"]
        ),
    )
    load(text, A="mistyped-pw-1", B="plain-user-1", C="SASL_SSL", D="right-pw-1")
    assert {"mistyped-pw-1", "right-pw-1", "canary-dsn-pw"} <= secrets_in_use()
    assert not {"plain-user-1", "SASL_SSL"} & secrets_in_use()
