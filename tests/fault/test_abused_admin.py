"""A pipeline at work while strangers misuse its admin HTTP: what it delivers, how fast, and what it costs.

How fast is printed and held against nothing. The strangers' own part of the processor is in it; the full rig therefore
also lets them at the admin of another process, and prints what is left once that is taken out.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest

from deltaforge.admin.guard import TOKEN_VARIABLE
from deltaforge.admin.server import MAX_CONNECTIONS
from tests.fault.sizes import FULL
from tests.ledger.workload import make_tables
from tests.support.abuse import CONNECTED, KINDS, REFUSED, Abuse
from tests.support.canaries import canary
from tests.support.kafka_topics import create_topic
from tests.support.orders import insert_orders, wait_until
from tests.support.pipelines import local, write
from tests.support.process import Deltaforge
from tests.support.topics import LiveReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.support.databases import Database

TOKEN = canary("API token")
ROWS = 60_000 if FULL else 6000
"""In each backlog that is measured."""
TRANSACTIONS = 6
MIB = 1024 * 1024
MEMORY = 64 * MIB
"""So much more than before may be in use at any time: what connections may cost is far less, the rest is the rows."""
DESCRIPTORS = 8
"""So many may come and go by themselves."""
GROUPS = {
    "connections without end": ("flood", "ask and leave", "idle", "half open"),
    "slow clients": ("slow headers", "slow body", "slow reader"),
    "too many bytes": ("huge header", "huge body", "garbage", "http2"),
    "good requests without end": ("hammer", "pipelined"),
    "bad requests without end": ("wrong token", "tricks", "writes"),
}
STORMS = GROUPS if FULL else {"everything at once": tuple(KINDS)}


class Spent(NamedTuple):
    """What the process holds at one moment."""

    descriptors: int
    rss: int

    @classmethod
    def by(cls, product: Deltaforge) -> Spent:
        """Now."""
        return cls(len(os.listdir(f"/proc/{product.pid}/fd")), product.rss())


class Drained(NamedTuple):
    """One backlog on its way to a consumer."""

    rows_per_s: float
    cpu_s: float
    """Processor seconds of the process, user and system."""


class Load:
    """Backlogs of rows through a running pipeline, each measured."""

    def __init__(self, product: Deltaforge, database: Database, reader: LiveReader) -> None:
        self._product, self._database, self._reader = product, database, reader
        self.rows = 0

    def drain(self) -> Drained:
        """Write a backlog and wait until a consumer has all of it."""
        began, used, before = time.monotonic(), self._product.cpu_s(), self.rows
        for _ in range(TRANSACTIONS):
            first, self.rows = self.rows, self.rows + ROWS // TRANSACTIONS
            insert_orders(self._database, range(first + 1, self.rows + 1))
        self._reader.wait_for(self.rows)
        return Drained((self.rows - before) / (time.monotonic() - began), self._product.cpu_s() - used)


class Abused(NamedTuple):
    """A backlog that was drained during some abuse."""

    name: str
    drained: Drained
    beside: Drained | None
    """The same while the same strangers were at another process."""
    during: Spent
    operator_s: float
    """How long the operator asked until there was an answer."""
    strangers: dict[str, dict[str, int]]
    """What each kind did and was answered."""

    def line(self, alone: float, before: Spent) -> str:
        """All of it, for people. `alone`: rows a second without abuse."""
        made = sum(counts.get(CONNECTED, 0) for counts in self.strangers.values())
        told = Counter[str]()
        for kind in REFUSED:
            told.update({said: n for said, n in self.strangers.get(kind, {}).items() if said != CONNECTED})
        speed = self.drained.rows_per_s
        beside = f"{speed / self.beside.rows_per_s:.2f} of that with them elsewhere, " if self.beside else ""
        return (
            f"{self.name:26} {speed / alone:5.2f} of that speed, {beside}{self.drained.cpu_s:.1f} s of "
            f"processor, {self.during.rss / MIB:.0f} MiB, {self.during.descriptors - before.descriptors} descriptors "
            f"more, {made} connections made, the operator answered after {self.operator_s:.1f} s; "
            f"told: {', '.join(f'{n} {said}' for said, n in sorted(told.items())) or 'nothing'}"
        )


@pytest.fixture
def product(kafka: KafkaCluster, database: Database, topic_prefix: str, tmp_path: Path) -> Iterator[Deltaforge]:
    """The example's pipeline at work, named like its topic, its admin HTTP with a token."""
    make_tables(database.dsn())
    with _instance(topic_prefix, kafka, database, tmp_path) as made:
        yield made


@pytest.fixture
def elsewhere(
    product: Deltaforge, kafka: KafkaCluster, database: Database, topic_prefix: str, tmp_path: Path
) -> Iterator[Deltaforge | None]:
    """In the full rig, another such process: with a pipeline that has nothing to do."""
    if not FULL:
        yield None
        return
    database.execute("create table nothing (id int primary key)")
    database.execute("create publication nothing_pub for table nothing")
    with _instance(f"{topic_prefix}-else", kafka, database, tmp_path, tables=["public.nothing"]) as made:
        yield made


@contextmanager
def _instance(
    name: str, kafka: KafkaCluster, database: Database, folder: Path, tables: list[str] | None = None
) -> Iterator[Deltaforge]:
    create_topic(kafka.bootstrap(), name, 12)
    document = local(name, name)
    if tables is not None:
        document["spec"]["source"]["config"] |= {"tables": tables, "publication": "nothing_pub"}
    file = write(folder / f"{name}.yaml", document)
    servers = {"POSTGRES_DSN": database.dsn(), "KAFKA_BROKERS": kafka.bootstrap(), TOKEN_VARIABLE: TOKEN}
    with Deltaforge(file, servers, name="abused") as made:
        made.wait_ready()
        yield made


@pytest.mark.slow
@pytest.mark.fault("X3", "X4")
def test_a_pipeline_works_on_while_its_admin_is_abused(
    product: Deltaforge,
    elsewhere: Deltaforge | None,
    kafka: KafkaCluster,
    database: Database,
    topic_prefix: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Guards against strangers who stop a pipeline, fill the process's memory, or keep the operator out."""
    faulthandler.cancel_dump_traceback_later()
    found: list[Abused] = []
    with LiveReader(kafka.bootstrap(), topic_prefix) as reader:
        # GIVEN a pipeline that is warm, and how fast it is while it is left alone
        load = Load(product, database, reader)
        load.drain()
        before, quiet = Spent.by(product), [load.drain()]
        for name, kinds in STORMS.items():
            # WHEN strangers do their worst
            with Abuse(product.port, *kinds, path=f"/pipelines/{topic_prefix}", token=TOKEN) as abuse:
                drained, during = load.drain(), Spent.by(product)
                operator_s = _served(product, topic_prefix)
            beside = _beside(load, elsewhere, kinds, f"/pipelines/{topic_prefix}-else") if elsewhere else None
            found.append(Abused(name, drained, beside, during, operator_s, abuse.done))
        quiet.append(load.drain())
        numbers = Counter(json.loads(record.key or b"")["id"] for record in reader.records)
    with capsys.disabled():
        print(_table(found, quiet, before, product.peak_rss()))
    # THEN every row is there once, nobody was told more than 4xx, and nothing was used up
    assert numbers == Counter(range(1, load.rows + 1))
    _are_refused(found)
    _has_cost_little(product, before, max(one.during.descriptors for one in found))
    assert product.term() == 0, product.tail()


def _beside(load: Load, elsewhere: Deltaforge, kinds: Sequence[str], path: str) -> Drained:
    """A backlog drained while the strangers are at another process."""
    with Abuse(elsewhere.port, *kinds, path=path, token=TOKEN) as abuse:
        drained = load.drain()
    assert sum(counts.get(CONNECTED, 0) for counts in abuse.done.values()) > 0
    return drained


def _served(product: Deltaforge, name: str) -> float:
    """Seconds until the operator, who knows the token, sees the pipeline."""
    began = time.monotonic()
    wait_until(lambda: product.ask(f"/pipelines/{name}", token=TOKEN)[0] == 200, "the operator is served", lambda: None)
    return time.monotonic() - began


def _are_refused(found: list[Abused]) -> None:
    """Every stranger who broke a rule got 4xx, or no answer."""
    told = {kind: counts for one in found for kind, counts in one.strangers.items()}
    for kind in REFUSED:
        answers = {said for said in told[kind] if re.fullmatch("[0-9]{3}|no HTTP", said)}
        assert answers <= {"400", "401", "404", "405", "413", "431"}, (kind, told[kind])


def _has_cost_little(product: Deltaforge, before: Spent, most_descriptors: int) -> None:
    """Memory and descriptors stayed within the limits, came back, and the server was never restarted."""
    assert most_descriptors <= before.descriptors + MAX_CONNECTIONS + DESCRIPTORS
    assert product.peak_rss() <= before.rss + MEMORY
    wait_until(
        lambda: Spent.by(product).descriptors <= before.descriptors + DESCRIPTORS,
        "the descriptors are given back",
        lambda: None,
    )
    assert product.ask("/health", token=TOKEN) == (200, b'{"state":"ok","problems":[]}\n')
    _, page = product.ask("/metrics", token=TOKEN)
    restarts = re.findall(rb'^deltaforge_actor_restarts_total\{[^}]*actor="http"[^}]*\} (\S+)$', page, re.MULTILINE)
    assert all(float(count) == 0 for count in restarts), restarts


def _table(found: list[Abused], quiet: list[Drained], before: Spent, peak_rss: int) -> str:
    alone = sum(one.rows_per_s for one in quiet) / len(quiet)
    return "\n".join(
        [
            "",
            f"{ROWS} rows, alone:           {quiet[0].rows_per_s:6.0f} and {quiet[1].rows_per_s:.0f} rows/s, "
            f"{quiet[0].cpu_s:.1f} and {quiet[1].cpu_s:.1f} s of processor, {before.rss / MIB:.0f} MiB",
            *(one.line(alone, before) for one in found),
            f"most memory at any time    {peak_rss / MIB:6.0f} MiB",
        ]
    )
