"""Where batches go: memory, file, stdout and Kafka."""

from __future__ import annotations
