"""Pipeline files for tests: the example's file, and the changes its readers are told to make to it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

Document: TypeAlias = dict[str, Any]

SEED = Path(__file__).resolve().parents[2] / "examples" / "kafka-prod.yaml"
SEED_NAME = "orders-to-kafka-prod"
SEED_TOPIC = "orders.cdc.events"
SEED_CHECKPOINTS = f"_deltaforge.{SEED_NAME}.orders-kafka"
SECURITY = ("security.", "sasl.", "ssl.")


def seed() -> Document:
    """The example's pipeline as a document that may be changed."""
    document = yaml.safe_load(SEED.read_text())
    assert isinstance(document, dict)
    return document


def kafka_config(document: Document) -> dict[str, Any]:
    """The settings of the document's Kafka sink, to be changed in place."""
    config = document["spec"]["sinks"][0]["config"]
    assert isinstance(config, dict)
    return config


def without_security(document: Document) -> Document:
    """The same pipeline for a broker that asks nobody who he is."""
    changed = copy.deepcopy(document)
    config = kafka_config(changed)
    config["client_conf"] = {key: value for key, value in config["client_conf"].items() if not key.startswith(SECURITY)}
    return changed


def with_security(document: Document, client_conf: Mapping[str, str]) -> Document:
    """A security fragment pasted in: it replaces the keys that begin with security, sasl and ssl."""
    changed = without_security(document)
    kafka_config(changed)["client_conf"] |= client_conf
    return changed


def with_tuning(document: Document, fragment: Document) -> Document:
    """A tuning fragment pasted in.

    `batch` and `exactly_once` replace, `client_conf` replaces all but the security keys; without `exactly_once` in
    the fragment it is off.
    """
    changed = copy.deepcopy(document)
    config = kafka_config(changed)
    kept = {key: value for key, value in config["client_conf"].items() if key.startswith(SECURITY)}
    config["client_conf"] = {**kept, **fragment["client_conf"]}
    config["exactly_once"] = fragment.get("exactly_once", False)
    changed["spec"]["batch"] = fragment["batch"]
    return changed


def local(name: str, topic: str) -> Document:
    """The example's pipeline without security, under names of its own; it still takes its servers from variables."""
    document = without_security(seed())
    document["metadata"]["name"] = name
    document["spec"]["source"]["config"]["slot"] = name.replace("-", "_")
    kafka_config(document)["topic"] = topic
    return document


def write(path: Path, document: Document) -> Path:
    """Write a document as YAML and return its path."""
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path
