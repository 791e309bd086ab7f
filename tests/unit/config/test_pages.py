"""What users read and copy is what the code does: the reference page and the example pipelines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.inspect import LiteralType, Metadata, type_info

from deltaforge.config.debezium import DebeziumOptions
from deltaforge.config.load import load_file
from deltaforge.config.reference import page
from deltaforge.config.schema import KafkaSink
from deltaforge.sinks.kafka.client_conf import MskIam, build_client_conf, check_client_conf

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
SEED = (ROOT / "tests/data/seed/kafka-prod.md").read_text()
ENV = {
    "POSTGRES_DSN": "postgres://user:password@localhost:5432/orders",
    "KAFKA_BROKERS": "kafka1:9093,kafka2:9093,kafka3:9093",
    "KAFKA_USERNAME": "deltaforge",
    "KAFKA_PASSWORD": "secret",
    "SSL_KEY_PASSWORD": "key-secret",
    "CONFLUENT_API_KEY": "api-key",
    "CONFLUENT_API_SECRET": "api-secret",
    "AWS_REGION": "eu-west-1",
}
SECURITY = ("security.", "sasl.", "ssl.")
REPLACES_SECURITY = {"mtls": "mTLS (Mutual TLS)", "msk": "AWS MSK with IAM", "confluent-cloud": "Confluent Cloud"}
REPLACES_TUNING = {
    "high-throughput": "High Throughput",
    "low-latency": "Low Latency",
    "max-durability": "Maximum Durability",
}


def seed_yaml(heading: str) -> str:
    """The first YAML block below a heading of the seed document."""
    match = re.search(r"```yaml\n(.*?)```", SEED[SEED.index(f"# {heading}\n") :], re.DOTALL)
    assert match is not None
    return match[1]


def test_the_reference_page_is_what_the_schema_says() -> None:
    """Guards against a manual that lies. To correct: python -m deltaforge.config.reference > docs/configuration.md"""
    assert (ROOT / "docs/configuration.md").read_text() == page()


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return str(default) or "none"


def test_the_envelopes_page_has_every_option_with_its_values_and_default() -> None:
    """Guards against an option that nobody finds, or that does something else when it is left out."""
    table = re.findall(r"^\| (`[^|]*) \| ([^|]*) \| ([^|]*) \|", (ROOT / "docs/envelopes.md").read_text(), re.MULTILINE)
    rows = {
        name: (values, default.strip("`")) for names, values, default in table for name in re.findall(r"`(.*?)`", names)
    }
    fields = {field.encode_name: field for field in type_info(DebeziumOptions).fields}  # type: ignore[attr-defined]
    assert rows.keys() == fields.keys()
    for name, field in fields.items():
        values, default = rows[name]
        assert default == _shown(field.default), name
        kind = field.type
        while isinstance(kind, Metadata):
            kind = kind.type
        if isinstance(kind, LiteralType):
            assert set(re.findall(r"`(.*?)`", values)) == set(kind.values), name


def test_the_production_example_is_the_seed_documents_word_for_word() -> None:
    """Guards against an example that was made to fit the code."""
    assert (ROOT / "examples/kafka-prod.yaml").read_text() == seed_yaml("Pipeline Configuration")


@pytest.mark.parametrize("name", [*REPLACES_SECURITY, *REPLACES_TUNING])
def test_every_other_kafka_example_is_the_production_one_with_a_fragment_pasted_in(name: str) -> None:
    """Guards against examples that drift from the seed document's fragments."""
    expected: dict[str, Any] = yaml.safe_load(seed_yaml("Pipeline Configuration"))
    config = expected["spec"]["sinks"][0]["config"]
    if name in REPLACES_SECURITY:
        fragment = yaml.safe_load(seed_yaml(REPLACES_SECURITY[name]))
        kept = {key: value for key, value in config["client_conf"].items() if not key.startswith(SECURITY)}
    else:
        fragment = yaml.safe_load(seed_yaml(REPLACES_TUNING[name]))
        kept = {key: value for key, value in config["client_conf"].items() if key.startswith(SECURITY)}
        config.pop("exactly_once")
        if "exactly_once" in fragment:
            config["exactly_once"] = fragment["exactly_once"]
        expected["spec"]["batch"] = fragment["batch"]
    config["client_conf"] = kept | fragment["client_conf"]
    assert yaml.safe_load((ROOT / f"examples/{name}.yaml").read_text()) == expected


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_loads_and_its_client_settings_can_be_made(path: Path) -> None:
    """Guards against an example that does not start."""
    pipeline = load_file(path, ENV, sink_checks=[check_client_conf]).require()
    for sink in pipeline.spec.sinks:
        if isinstance(sink, KafkaSink):
            conf = build_client_conf(sink.config, transactional_id="t", aws_region=ENV["AWS_REGION"])
            assert conf.oauth == (MskIam("eu-west-1") if path.stem == "msk" else None)


def test_the_examples_cover_what_the_seed_document_shows() -> None:
    """Guards against a forgotten file."""
    names = {path.stem for path in EXAMPLES}
    assert {"kafka-prod", "file-sink", "stdout", *REPLACES_SECURITY, *REPLACES_TUNING} <= names


def test_the_production_example_means_what_it_says() -> None:
    """Guards against a value lost between the file and the structs."""
    pipeline = load_file(ROOT / "examples/kafka-prod.yaml", ENV, sink_checks=[check_client_conf]).require()
    assert (pipeline.metadata.name, pipeline.metadata.tenant) == ("orders-to-kafka-prod", "acme")
    source = pipeline.spec.source.config
    assert (source.slot, source.publication, source.start_position) == ("deltaforge_orders", "orders_pub", "earliest")
    assert source.tables == ("public.orders", "public.order_items", "public.payments")
    assert source.dsn.conninfo_keywords(reveal=True)["password"] == "password"
    sink = pipeline.spec.sinks[0]
    assert isinstance(sink, KafkaSink)
    assert (sink.config.exactly_once, sink.config.send_timeout_secs, sink.config.required) == (True, 60, True)
    assert str(sink.config.topic) == "orders.cdc.events"
    batch = pipeline.spec.batch
    assert (batch.max_events, batch.max_bytes, batch.max_ms, batch.max_inflight) == (1000, 1048576, 100, 4)
    conf = build_client_conf(sink.config, transactional_id="deltaforge.orders-to-kafka-prod.orders-kafka").reveal()
    assert conf["transaction.timeout.ms"] == conf["message.timeout.ms"] == "300000"
    assert conf["sasl.password"] == "secret"
    assert conf["transactional.id"] == "deltaforge.orders-to-kafka-prod.orders-kafka"
