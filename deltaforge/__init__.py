"""deltaforge: change data capture from PostgreSQL into Kafka, exactly once.

The map. Data flows downward through the rooms, in this order; a test holds it:

  model, runs, position, errors, patterns, failpoints, metrics   what everybody may know
  config        the YAML file -> frozen structs
  source        1  libpq COPY BOTH on Trio; slot, catalog, reader actor
  pgoutput      2  the wire messages of PostgreSQL's output plugin (pure)
  transactions  3  messages -> parts of committed transactions
  batcher       4  parts -> batches
  envelopes     5  row messages -> key and value bytes (pure)
  sinks         6  memory, file, stdout, kafka
  checkpoint    7  what is durable, what may be confirmed

Around the flow: startup (the first start), pipeline (the whole graph), status, admin, embedded, demo, cli, logs.
Beneath everything: the separate package `actors`, which knows nothing of deltaforge.
"""

from __future__ import annotations

__version__ = "0.1.0"

ROOMS = ("config", "source", "pgoutput", "transactions", "batcher", "envelopes", "sinks", "checkpoint")
