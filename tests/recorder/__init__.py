"""Record what a live Debezium writes for a file of SQL: `python -m tests.recorder NAME...`.

For a person at a desk, never for the test run: each recording starts PostgreSQL, a Kafka broker and Kafka Connect, and
takes about twenty seconds. What it writes, `tests/data/debezium/NAME.jsonl`, is what the tests compare with.
"""

from __future__ import annotations
