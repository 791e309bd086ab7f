"""Where going on would lose or repeat data, deltaforge says so and moves nothing.

Every pipeline of this file reads the same database into a topic of its own, so that one order shows in all of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.ledger.workload import make_tables
from tests.support.databases import Database, create_database, drop_database
from tests.support.instances import Pipeline, Site, alive, refusals, states, wait_states
from tests.support.kafka_topics import create_topic, delete_topic
from tests.support.orders import insert_orders, seen_orders, wait_for_orders, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deltaforge.embedded.kafka import KafkaCluster
    from deltaforge.embedded.postgres import PostgresServer
    from tests.support.process import Deltaforge

pytestmark = pytest.mark.slow

REFUSED = 4
LSN = r"[0-9A-F]+/[0-9A-F]+"
REPEATED = rf"slot stands at {LSN}, .*expected .*: changes between {LSN} and {LSN}, .* could be repeated"
LOST = rf".*: changes between {LSN} and {LSN}.* would be lost"
PAST = rf"stands at {LSN}, expected at most {LSN}{LOST}"


@pytest.fixture(scope="module")
def site(kafka: KafkaCluster, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One database with the tables, for all tests of this file."""
    database = create_database(postgres)
    make_tables(database.dsn())
    directory = tmp_path_factory.mktemp("refusals")
    with Site(kafka, database, directory, f"r{database.name[-8:]}") as made:
        yield made
    drop_database(database)


# ---- damage done while nothing runs


def _delete_topic(site: Site, hurt: Pipeline) -> None:
    delete_topic(site.bootstrap, hurt.checkpoints)


def _empty_topic(site: Site, hurt: Pipeline) -> None:
    delete_topic(site.bootstrap, hurt.checkpoints)
    create_topic(site.bootstrap, hurt.checkpoints, 1, config={"cleanup.policy": "compact"})


def _drop_slot(site: Site, hurt: Pipeline) -> None:
    site.database.execute("select pg_drop_replication_slot(%s)", [hurt.slot])


def _recreate_slot(site: Site, hurt: Pipeline) -> None:
    _drop_slot(site, hurt)
    site.database.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", [hurt.slot])


def _advance_slot(site: Site, hurt: Pipeline) -> None:
    site.database.execute("select pg_replication_slot_advance(%s, pg_current_wal_lsn())", [hurt.slot])


PGOUTPUT = "null, null, 'proto_version', '1', 'publication_names', 'orders_pub'"
CONSUME = f"select count(*) from pg_logical_slot_get_binary_changes(%s, {PGOUTPUT})"
PEEK = f"select count(*) from pg_logical_slot_peek_binary_changes(%s, {PGOUTPUT})"


def _consume_slot(site: Site, hurt: Pipeline) -> None:
    assert site.database.value(CONSUME, [hurt.slot]) > 0


DAMAGE: dict[str, tuple[Callable[[Site, Pipeline], None], str, str]] = {
    # kind: the damage, the flag that the refusal must name, what it must say is at stake
    "topic-deleted": (_delete_topic, "--adopt-slot", REPEATED),
    "topic-emptied": (_empty_topic, "--adopt-slot", REPEATED),
    "slot-dropped": (_drop_slot, "--accept-gap", rf"does not exist, expected it at {LSN}{LOST}"),
    "slot-recreated": (_recreate_slot, "--accept-gap", PAST),
    "slot-advanced": (_advance_slot, "--accept-gap", PAST),
    "slot-consumed": (_consume_slot, "--accept-gap", PAST),
}
BEFORE, MISSED, BESIDE, AFTER, LAST = range(1, 6), range(6, 9), [9], [10], [11]
"""Orders written before the damage, just before it while nothing ran, while the neighbour ran alone, and later."""


@dataclass
class Wreck:
    """What was seen of the damaged pipelines and one that was left alone."""

    hurt: dict[str, Pipeline]
    neighbour: Pipeline
    slots: dict[str, str | None]
    """Confirmed positions right after the damage."""
    beside: dict[str, str] = field(default_factory=dict)
    """States in the process that ran all of them."""
    health: tuple[int, int] = (0, 0)
    neighbour_view: dict[str, object] = field(default_factory=dict)
    alone: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    """Exit code and refusals of each alone in its process."""
    other_flag: dict[str, int] = field(default_factory=dict)
    """Exit code of each with the flag its refusal named, but another LSN."""
    slots_then: dict[str, str | None] = field(default_factory=dict)
    """Confirmed positions before the right flags were given."""
    seen: dict[str, list[int]] = field(default_factory=dict)
    """Orders in each topic at the end."""


@pytest.fixture(scope="module")
def wreck(site: Site) -> Wreck:
    """Pipelines that worked, all but one of them damaged; then everything an operator would try."""
    made = _damaged(site)
    _beside(site, made)
    for kind, product in _each(site, made, lambda kind: ()).items():
        code = product.wait()
        made.alone[kind] = code, refusals(product)
    for kind, product in _each(site, made, lambda kind: _flag(made, kind, 1)).items():
        made.other_flag[kind] = product.wait()
    made.slots_then = {kind: site.confirmed(hurt) for kind, hurt in made.hurt.items()}
    _again(site, made)
    return made


def _damaged(site: Site) -> Wreck:
    hurt = {kind: site.pipeline(kind) for kind in DAMAGE}
    made = Wreck(hurt, site.pipeline("neighbour"), {})
    product = site.process(made.neighbour.file.parent, name="refusals-before")
    product.start()
    product.wait_ready()
    insert_orders(site.database, BEFORE)
    for pipeline in (*hurt.values(), made.neighbour):
        wait_for_orders(site.bootstrap, pipeline.topic, BEFORE, lambda: alive(product))
    assert product.term() == 0, product.tail()
    insert_orders(site.database, MISSED)
    for kind, (damage, _, _) in DAMAGE.items():
        damage(site, hurt[kind])
    made.slots = {kind: site.confirmed(pipeline) for kind, pipeline in hurt.items()}
    return made


def _beside(site: Site, made: Wreck) -> None:
    product = site.process(made.neighbour.file.parent, name="refusals-beside")
    product.start()
    wait_states(product, list(made.hurt.values()), "refused")
    insert_orders(site.database, BESIDE)
    wait_for_orders(site.bootstrap, made.neighbour.topic, [*MISSED, *BESIDE], lambda: alive(product))
    made.beside = states(product)
    made.health = product.ask("/health")[0], product.ask("/ready")[0]
    made.neighbour_view = product.pipeline(made.neighbour.name)
    assert product.term() == 0, product.tail()


def _each(site: Site, made: Wreck, arguments: Callable[[str], tuple[str, ...]]) -> dict[str, Deltaforge]:
    """Every damaged pipeline alone in a process, started."""
    products = {
        kind: site.process(hurt.file, *arguments(kind), name=f"refusals-{kind}") for kind, hurt in made.hurt.items()
    }
    for product in products.values():
        product.start()
    return products


def _flag(made: Wreck, kind: str, off: int) -> tuple[str, ...]:
    """The flag that the refusal named; `off` by some bytes."""
    flag = DAMAGE[kind][1]
    found = re.search(rf"{flag}=([0-9A-F]+)/([0-9A-F]+)", "\n".join(made.alone[kind][1]))
    assert found, f"{kind}: no {flag} in {made.alone[kind][1]}"
    return (f"{flag}={found[1]}/{int(found[2], 16) + off:X}",)


def _again(site: Site, made: Wreck) -> None:
    """With the named flag alone, then all of them without any."""
    for kind, product in _each(site, made, lambda kind: _flag(made, kind, 0)).items():
        product.wait_ready()
        assert states(product) == {made.hurt[kind].name: "running"}
    insert_orders(site.database, AFTER)
    for hurt in made.hurt.values():
        wait_for_orders(site.bootstrap, hurt.topic, AFTER, lambda: None)
    site.end_all()
    product = site.process(made.neighbour.file.parent, name="refusals-after")
    product.start()
    product.wait_ready()
    insert_orders(site.database, LAST)
    for kind, pipeline in (*made.hurt.items(), ("neighbour", made.neighbour)):
        wait_for_orders(site.bootstrap, pipeline.topic, LAST, lambda: alive(product))
        made.seen[kind] = seen_orders(site.bootstrap, pipeline.topic)
    product.kill9()


@pytest.mark.fault("G6", "K11")
@pytest.mark.parametrize("kind", DAMAGE)
def test_a_pipeline_whose_slot_or_record_was_damaged_ends_with_one_clear_line(wreck: Wreck, kind: str) -> None:
    """Guards against going on over a hole, and against a refusal that leaves the operator guessing."""
    code, lines = wreck.alone[kind]
    _, flag, stake = DAMAGE[kind]
    assert code == REFUSED
    assert len(lines) == 1, lines
    assert re.search(stake, lines[0]), lines[0]
    assert re.search(rf"{flag}={LSN}", lines[0]), lines[0]


@pytest.mark.fault("G6", "K11")
@pytest.mark.parametrize("kind", DAMAGE)
def test_the_named_flag_starts_a_refused_pipeline_and_any_other_lsn_does_not(wreck: Wreck, kind: str) -> None:
    """Guards against a flag, left in a manifest, that waves a later loss through; and against one that does nothing."""
    assert wreck.other_flag[kind] == REFUSED
    # What was missed is lost where the operator said so; nothing is repeated, since the last run had ended in order.
    missed = list(MISSED) + BESIDE if DAMAGE[kind][1] == "--adopt-slot" else BESIDE if kind != "slot-dropped" else []
    assert wreck.seen[kind] == [*BEFORE, *missed, *AFTER, *LAST]


@pytest.mark.fault("G6", "K11")
def test_a_refusal_moves_no_slot_and_leaves_its_neighbours_alone(wreck: Wreck) -> None:
    """Guards against confirming, making or dropping anything on the way to a refusal."""
    assert wreck.slots_then == wreck.slots
    assert wreck.beside[wreck.neighbour.name] == "running"
    assert {wreck.beside[hurt.name] for hurt in wreck.hurt.values()} == {"refused"}
    assert wreck.health == (200, 503)
    assert wreck.neighbour_view["sinks"][0]["aborts"] == 0  # type: ignore[index]
    assert wreck.seen["neighbour"] == [*BEFORE, *MISSED, *BESIDE, *AFTER, *LAST]


# ---- wrong source


@pytest.mark.fault("G5")
def test_a_wrong_database_or_server_is_refused_before_the_rightful_instance_notices(
    site: Site,
    make_database: Callable[[PostgresServer], Database],
    make_postgres: Callable[..., PostgresServer],
) -> None:
    """Guards a copied configuration that fences the real instance, or makes a slot where nobody looks after it."""
    # GIVEN the rightful instance at work
    pipeline = site.pipeline("source", "source")
    rightful = site.process(pipeline.file, name="source-rightful")
    rightful.start()
    rightful.wait_ready()
    holder = (site.slot(pipeline) or ())[1]
    # WHEN the same file is started on others: one without and one with the tables, on this server and on another
    elsewhere = make_postgres(18)
    elsewhere.start()
    wrong = [make_database(site.database.server), create_database(elsewhere), create_database(elsewhere)]
    make_tables(wrong[2].dsn())
    products = [site.process(pipeline.file, name="source-wrong", database=database) for database in wrong]
    for product in products:
        product.start()
    # THEN each is refused, names both sides, and has left nothing behind
    ends = [(product.wait(), refusals(product)) for product in products]
    assert [(code, len(lines)) for code, lines in ends] == [(REFUSED, 1)] * 3, [p.tail() for p in products]
    for (_, (line,)), database, kind in zip(ends, wrong, ("database", "system", "system"), strict=True):
        assert f"wrong source: {'slot' if kind == 'database' else 'the checkpoint'}" in line
        for server in (site.database, database):
            assert (server.name if kind == "database" else system_identifier(server)) in line
    assert wrong[1].value("select count(*) from pg_replication_slots") == 0
    # and the rightful one goes on with the stream and the producer it had
    insert_orders(site.database, [100])
    wait_for_orders(site.bootstrap, pipeline.topic, [100], lambda: alive(rightful))
    assert (site.slot(pipeline) or ())[1] == holder
    sink = rightful.pipeline(pipeline.name)["sinks"][0]
    assert (sink["state"], sink["aborts"]) == ("running", 0)
    assert "rewinding" not in rightful.text()
    assert seen_orders(site.bootstrap, pipeline.topic) == [100]
    rightful.kill9()


def system_identifier(database: Database) -> str:
    """The server's own number."""
    return str(database.value("select system_identifier::text from pg_control_system()"))


# ---- damage done under way


@pytest.mark.fault("G6", "K11")
def test_what_disappears_under_a_running_pipeline_ends_in_a_refusal_and_no_hot_loop(site: Site) -> None:
    """Guards against writing on without a position, and against asking the servers a thousand times a minute."""
    # GIVEN five pipelines at work in one process
    kinds = ("live-topic-deleted", "live-slot-dropped", "live-slot-advanced", "live-slot-consumed")
    # A topic that is gone is noticed when a flush has lasted too long.
    hurt = [site.pipeline(kind, "live", send_timeout_secs=10) for kind in kinds]
    neighbour = site.pipeline("live-neighbour", "live")
    product = site.process(neighbour.file.parent, name="live")
    product.start()
    product.wait_ready()
    insert_orders(site.database, [200])
    for pipeline in (*hurt, neighbour):
        wait_for_orders(site.bootstrap, pipeline.topic, [200], lambda: alive(product))
    # WHEN a checkpoint topic goes, a slot is torn away and dropped, others are advanced and read by another tool
    delete_topic(site.bootstrap, hurt[0].checkpoints)
    seize(site, hurt[1], "select pg_drop_replication_slot(%s)")
    seize(site, hurt[2], "select pg_replication_slot_advance(%s, pg_current_wal_insert_lsn())")
    seize(site, hurt[3], CONSUME)
    insert_orders(site.database, [201])
    # THEN these are refused, each with its own reason, and the fifth works
    wait_states(product, hurt, "refused")
    wait_for_orders(site.bootstrap, neighbour.topic, [200, 201], lambda: alive(product))
    lines = refusals(product)
    assert len(lines) == len(hurt), lines
    reasons = ("no checkpoint record", "slot does not exist", "expected at most", "expected at most")
    for pipeline, words in zip(hurt, reasons, strict=True):
        assert any(f"pipeline {pipeline.name} refused" in line and words in line for line in lines), lines
    assert site.confirmed(hurt[1]) is None
    assert site.confirmed(hurt[0]) is not None
    assert product.text().count('"rewinding"') < 30, product.text().count('"rewinding"')
    assert seen_orders(site.bootstrap, neighbour.topic) == [200, 201]
    product.kill9()


@pytest.mark.fault("G6")
def test_a_slot_that_was_looked_at_or_moved_to_and_fro_is_no_reason_to_refuse(site: Site) -> None:
    """Guards against alarms for what an operator does without harm: the slot stands where it stood."""
    # GIVEN a pipeline that has ended, and rows that wait for it
    pipeline = site.pipeline("looked-at", "looked-at")
    product = site.process(pipeline.file, name="looked-at")
    product.start()
    product.wait_ready()
    insert_orders(site.database, [300])
    wait_for_orders(site.bootstrap, pipeline.topic, [300], lambda: alive(product))
    assert product.term() == 0, product.tail()
    insert_orders(site.database, [301])
    # WHEN another tool peeks, and the slot is copied, dropped and copied back
    assert site.database.value(PEEK, [pipeline.slot]) > 0
    spare = f"{pipeline.slot}_spare"
    for source, target in ((pipeline.slot, spare), (spare, pipeline.slot)):
        site.database.execute("select pg_copy_logical_replication_slot(%s, %s)", [source, target])
        site.database.execute("select pg_drop_replication_slot(%s)", [source])
    # THEN it goes on as if nothing had been
    product.start()
    wait_for_orders(site.bootstrap, pipeline.topic, [300, 301], lambda: alive(product))
    assert product.term() == 0, product.tail()
    assert seen_orders(site.bootstrap, pipeline.topic) == [300, 301]


def seize(site: Site, pipeline: Pipeline, statement: str) -> None:
    """Run a statement on the slot in the moment after its walsender was ended."""

    def seized() -> bool:
        with site.database.connect() as connection:
            connection.execute(
                "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name = %s",
                [pipeline.slot],
            )
            # Standing further on is no harm where there is nothing between.
            connection.execute("select pg_logical_emit_message(true, 'test', 'between')")
            try:
                connection.execute(statement, [pipeline.slot])
            except psycopg.errors.ObjectInUse:
                return False
        return True

    wait_until(seized, f"{pipeline.slot} is free for a moment", lambda: None)
