"""I12 and I13: what a process holds of the system, and whether it tells a secret."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import psycopg

from tests.support.canaries import leaks
from tests.support.outage import resources

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.ledger.verdict import Verdict
    from tests.support.process import Deltaforge

SLACK_THREADS = 8
SLACK_DESCRIPTORS = 16
SLACK_WAL = 64 * 2**20
_RETAINED = "select (pg_current_wal_lsn() - restart_lsn)::int8 from pg_replication_slots where slot_name = %s"


@dataclass(frozen=True)
class Footprint:
    """Taken at one moment."""

    threads: int
    descriptors: int
    rss: int
    """Bytes."""
    retained_wal: int
    """Bytes of WAL that the slot holds back."""


def footprint(product: Deltaforge, dsn: str, slot: str) -> Footprint:
    """Look now; the process runs and the server answers."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(_RETAINED, [slot]).fetchone()
    held = resources(product)
    return Footprint(held.threads, held.descriptors, held.rss, 0 if row is None else row[0])


def judge_footprints(before: Footprint, after: Footprint, verdict: Verdict) -> None:
    """I12: threads, descriptors and WAL are back where they were, memory is reported.

    Both are to be taken when the pipeline is idle and ready.
    """
    verdict.look("I12", 2)
    verdict.figures |= {"resources before": asdict(before), "resources after": asdict(after)}
    slack = {"threads": SLACK_THREADS, "descriptors": SLACK_DESCRIPTORS, "retained_wal": SLACK_WAL}
    for name, more in slack.items():
        low, high = getattr(before, name), getattr(after, name)
        if high > low + more:
            verdict.add("resources", f"{name}: {low} before, {high} after")


def said_by(product: Deltaforge, pipeline: str) -> dict[str, str]:
    """Everything that a process says: its log and, while it runs, what the admin HTTP answers."""
    texts = {"the log": product.text()}
    if product.running:
        for path in ("/health", "/ready", "/metrics", "/pipelines", f"/pipelines/{pipeline}"):
            texts[path] = product.ask(path)[1].decode(errors="replace")
    return texts


def judge_secrets(texts: Mapping[str, str], verdict: Verdict) -> None:
    """I13: no canary in any of these texts, which have names."""
    for where, text in texts.items():
        verdict.look("I13")
        for leak in leaks(text):
            verdict.add("secret", f"{leak} in {where}")
