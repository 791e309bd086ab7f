"""Stage 5: change events as bytes. Pure: reads pgoutput messages, knows no Kafka and no Trio."""

from __future__ import annotations
