"""What is durable and what may be confirmed: the checkpoint topic, its records, the commit policy and its actor."""

from __future__ import annotations
