"""A first start that is killed between any two of its steps is gone on with by the next one, without a person.

Every pipeline of this file reads the same database into a topic of its own, so that one order shows in all of them.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.ledger.workload import make_tables
from tests.support.databases import create_database, drop_database
from tests.support.instances import Pipeline, Site, alive
from tests.support.orders import insert_orders, seen_orders, wait_for_orders, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from deltaforge.embedded.kafka import KafkaCluster
    from deltaforge.embedded.postgres import PostgresServer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(kafka: KafkaCluster, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One database with the tables, for all tests of this file."""
    database = create_database(postgres)
    make_tables(database.dsn())
    directory = tmp_path_factory.mktemp("first")
    with Site(kafka, database, directory, f"f{database.name[-8:]}") as made:
        yield made
    drop_database(database)


BATCHES = (
    (
        "startup.before_topic",
        "startup.before_creating",
        "startup.after_creating",
        "startup.before_slot",
        "walsender.asked.create_replication_slot",
        "startup.after_slot",
    ),
    (
        "startup.before_born",
        "startup.after_born",
        "reader.before_start",
        "walsender.asked.start_replication",
        "kafka.before_init",
        "kafka.after_init",
    ),
    # Reached with the first change only.
    ("kafka.before_checkpoint", "kafka.after_checkpoint", "kafka.before_commit", "kafka.after_commit"),
)
"""Steps of a first start, in order; those of one batch are killed at the same time."""
STEPS = [step for batch in BATCHES for step in batch]


@dataclass
class Killed:
    """What became of a pipeline that was killed at one step of its first start."""

    pipeline: Pipeline
    code: int
    expected: list[int]
    """What was written while its slot existed."""
    seen: list[int] = field(default_factory=list)


@pytest.fixture(scope="module")
def killed(site: Site) -> dict[str, Killed]:
    """Every step's pipeline killed there, then all of them started again in one process."""
    made: dict[str, Killed] = {}
    for number, batch in enumerate(BATCHES):
        _kill(site, batch, 300 + 10 * number, made)
    folder = made[STEPS[0]].pipeline.file.parent
    product = site.process(folder, name="killed-again")
    product.start()
    product.wait_ready()
    _write_to(site, made.values(), [399])
    for one in made.values():
        wait_for_orders(site.bootstrap, one.pipeline.topic, one.expected, lambda: alive(product))
    assert product.term() == 0, product.tail()
    for one in made.values():
        one.seen = seen_orders(site.bootstrap, one.pipeline.topic)
    return made


def _kill(site: Site, steps: Sequence[str], number: int, made: dict[str, Killed]) -> None:
    """Start these steps' pipelines, each in a process that dies at its step; then write what it must not miss."""
    products = {}
    for step in steps:
        pipeline = site.pipeline(re.sub("[._]", "-", step), "killed")
        armed = {"DELTAFORGE_FAILPOINTS": f"{step}=kill@1"}
        products[step] = pipeline, site.process(pipeline.file, name=f"killed-{step}", extra=armed)
        products[step][1].start()
    first: list[int] = []
    if steps is BATCHES[-1]:
        for _, product in products.values():
            product.wait_ready()
        first = [number]
        _write_to(site, made.values(), first)
    for step, (pipeline, product) in products.items():
        made[step] = Killed(pipeline, product.wait(), list(first))
    _write_to(site, made.values(), [number + 1])


def _write_to(site: Site, pipelines: Iterable[Killed], numbers: Sequence[int]) -> None:
    """Write orders, and note them for every pipeline whose slot is there."""
    for one in pipelines:
        if site.slot(one.pipeline) is not None:
            one.expected += numbers
    insert_orders(site.database, numbers)


@pytest.mark.fault("P17")
@pytest.mark.parametrize("step", STEPS)
def test_a_first_start_killed_at_any_step_is_gone_on_with(killed: dict[str, Killed], step: str) -> None:
    """Guards a half-made first start that needs a person, or that forgets or repeats what came meanwhile."""
    one = killed[step]
    assert one.code == -signal.SIGKILL
    assert one.seen == one.expected


@pytest.mark.fault("P17", "G17")
def test_a_slot_whose_creation_waits_for_an_old_transaction_is_waited_for_also_after_a_kill(site: Site) -> None:
    """Guards a second slot, or a refusal, while the server still makes the first one for a process long dead."""
    pipeline = site.pipeline("waiting", "waiting")
    product = site.process(pipeline.file, name="waiting")
    with site.database.connect() as old:
        # GIVEN a transaction that is older than the slot, and a process killed while the server waits for its end
        old.execute("begin")
        old.execute("select pg_current_xact_id()")
        product.start()
        wait_until(lambda: site.slot(pipeline) is not None, "the slot is being made", lambda: alive(product))
        product.kill9()
        assert site.confirmed(pipeline) is None
        # WHEN it is started again
        product.start()
        wait_until(
            lambda: "is still being created" in product.text(), "it says what it waits for", lambda: alive(product)
        )
        assert product.ask("/ready")[0] == 503
        # THEN it goes on by itself once the transaction has ended
        old.execute("commit")
    product.wait_ready()
    insert_orders(site.database, [500])
    wait_for_orders(site.bootstrap, pipeline.topic, [500], lambda: alive(product))
    assert product.term() == 0, product.tail()
    assert seen_orders(site.bootstrap, pipeline.topic) == [500]
