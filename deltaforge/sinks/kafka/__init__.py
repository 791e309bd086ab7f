"""The Kafka sink."""

from __future__ import annotations
