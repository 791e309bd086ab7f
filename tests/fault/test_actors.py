"""Every actor made to raise, to be cancelled and to hang while it works: restarted, and nothing lost or doubled.

The process is the real one, on real servers; failpoints in its environment do the harm.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import time
from itertools import cycle
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.fault.sizes import FULL, SEED, half
from tests.ledger.judge import judge
from tests.ledger.workload import Workload, make_tables
from tests.support.kafka_topics import create_topic
from tests.support.pipelines import SEED as EXAMPLE
from tests.support.pipelines import local, write
from tests.support.process import Deltaforge
from tests.support.topics import LiveReader, markers, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.support.databases import Database

ROWS_PER_S = 1000.0
WAIT_S = 90.0
STALL_S = "5"
"""Far above what a busy machine makes an actor wait, far below the default."""
RESTARTS = "deltaforge_actor_restarts_total"

# Where each actor is hit, and at which pass: one after the other, as the stream goes on. The checkpointer is the last
# one: its hang stops nobody else, and its restart would take away the hang of a sibling.
STAGES = {
    "sinks/orders-kafka": ("sink.loop", 100),
    "batcher": ("batcher.loop", 200),
    "assembler": ("assembler.loop", 300),
    "reader": ("reader.loop", 400),
    "checkpointer": ("checkpointer.loop", 250),
    "observer/monitor": ("monitor.loop", 4),
}
ADMIN = ("admin.loop", 10)
SEEN = {
    "raise": "FailpointHit: failpoint {point}",
    "cancel": "UnexpectedCancellation: not cancelled by its supervisor: failpoint {point}",
    "stall": "StallDetected: no beat for",
}
ACTIONS = ("raise", "cancel", "stall")
RUNS = [(action,) for action in ACTIONS] if FULL else [(*ACTIONS[SEED % 3 :], *ACTIONS[: SEED % 3])]
"""What is done to the actors, in turn."""


@pytest.fixture
def topic(kafka: KafkaCluster, topic_prefix: str) -> str:
    """A topic of twelve partitions."""
    return create_topic(kafka.bootstrap(), f"{topic_prefix}.events", 12)


@pytest.fixture
def name(topic_prefix: str) -> str:
    """The pipeline's name."""
    return f"actors-{topic_prefix}"


@pytest.fixture
def start(
    kafka: KafkaCluster, database: Database, topic: str, name: str, tmp_path: Path
) -> Iterator[Callable[[str], Deltaforge]]:
    """Starts the example's pipeline on fresh tables, with failpoints."""
    make_tables(database.dsn())
    file = write(tmp_path / "pipeline.yaml", local(name, topic))
    servers = {"POSTGRES_DSN": database.dsn(), "KAFKA_BROKERS": kafka.bootstrap()}
    made: list[Deltaforge] = []

    def begin(failpoints: str) -> Deltaforge:
        environment = {**servers, "DELTAFORGE_FAILPOINTS": failpoints}
        made.append(Deltaforge(file, environment, arguments=["--stall-after", STALL_S], name="actors"))
        made[-1].start()
        return made[-1]

    yield begin
    for product in made:
        product.close()


class Observed:
    """What the admin HTTP ever said of restarts, while it answered."""

    def __init__(self, product: Deltaforge, name: str) -> None:
        self._product, self._name = product, name
        self.counted: dict[str, float] = {}
        """Actor to restarts, as in the metrics."""
        self.errors: dict[str, set[str]] = {}
        """Actor to every last error shown; a later one takes the place of an earlier one."""
        self.restarts: dict[str, int] = {}

    def look(self) -> None:
        """Ask once. An admin that does not answer is looked at again later."""
        assert self._product.running, self._product.tail()
        status, body = self._product.ask("/metrics")
        if status == 200:
            self.counted |= _counters(body.decode())
        status, body = self._product.ask(f"/pipelines/{self._name}")
        actors = json.loads(body)["actors"] if status == 200 else None
        for child in (actors or {}).get("children", ()):
            self._see(child, "")

    def _see(self, actor: dict[str, object], above: str) -> None:
        path = f"{above}{actor['id']}"
        if actor.get("last_error"):
            self.errors.setdefault(path, set()).add(str(actor["last_error"]))
        self.restarts[path] = int(str(actor.get("restarts", 0)))
        below = actor.get("children")
        for child in below if isinstance(below, list | tuple) else ():
            self._see(child, f"{path}/")

    def showed(self, actor: str, error: str) -> bool:
        """Whether this actor's last error was ever shown to begin like this."""
        return any(text.startswith(error) for text in self.errors.get(actor, ()))


def _counters(text: str) -> dict[str, float]:
    found = {}
    for line in text.splitlines():
        if line.startswith(f"{RESTARTS}{{"):
            labels, _, value = line.rpartition(" ")
            found[labels.partition('actor="')[2].partition('"')[0]] = float(value)
    return found


@pytest.mark.fault("P26")
@pytest.mark.slow
@pytest.mark.parametrize("actions", RUNS, ids="/".join)
def test_every_actor_is_restarted_and_nothing_is_lost_or_doubled(
    actions: tuple[str, ...],
    start: Callable[[str], Deltaforge],
    kafka: KafkaCluster,
    database: Database,
    topic: str,
    name: str,
    record_property: Callable[[str, object], None],
) -> None:
    """Guards against an actor that stays away, and against state that only its crashed run knew."""
    faulthandler.cancel_dump_traceback_later()
    # GIVEN a pipeline under load, in which every actor will be hit once
    harm = [(point, n, action) for (point, n), action in zip((*STAGES.values(), ADMIN), cycle(actions), strict=False)]
    product = start(",".join(f"{point}={action}@{n}" for point, n, action in harm))
    product.wait_ready()
    seen = Observed(product, name)
    wanted = {actor: SEEN[action].format(point=point) for actor, (point, _, action) in zip(STAGES, harm, strict=False)}
    with LiveReader(kafka.bootstrap(), topic) as reader:
        # WHEN it works until all of them have been hit
        with Workload(database.dsn(), seed=SEED, rows_per_s=ROWS_PER_S) as load:
            _until(
                lambda: _all_hit(seen, wanted),
                product,
                lambda: f"{seen.counted}\n{seen.errors}\n{product.ask(f'/pipelines/{name}')}",
            )
            after = load.rows
            load.wait_for_rows(after + 1000)
        expected = load.expected()
        # THEN each was restarted once, for the reason it was given, and rows went on
        with contextlib.suppress(TimeoutError):
            reader.wait_for(expected.events + expected.tombstones)
        live = judge(reader.records, expected)
    seen.look()
    assert seen.counted == dict.fromkeys((*STAGES, "http"), 1.0)
    assert {actor: seen.restarts[actor] for actor in STAGES} == dict.fromkeys(STAGES, 1)
    assert product.term() == 0, product.tail()
    assert "pipeline " not in "".join(line for line in product.text().splitlines() if not line.startswith("{"))
    final = judge(read(kafka.bootstrap(), topic), expected, markers(kafka, topic))
    record_property("verdict", final.totals)
    assert live.clean, str(live)
    assert final.clean, str(final)


def _all_hit(seen: Observed, wanted: dict[str, str]) -> bool:
    seen.look()
    return seen.counted.keys() >= {*STAGES, "http"} and all(seen.showed(*pair) for pair in wanted.items())


@pytest.mark.fault("P26")
@pytest.mark.parametrize(
    ("point", "actor"),
    half(
        [
            ("reader.loop", "reader"),
            ("assembler.loop", "assembler"),
            ("batcher.loop", "batcher"),
            ("checkpointer.loop", "checkpointer"),
        ]
    ),
)
def test_an_actor_that_crashes_too_often_ends_the_process_with_one_clear_line(
    point: str, actor: str, start: Callable[[str], Deltaforge], database: Database, name: str
) -> None:
    """Guards against a line that says `1 sub-exception`, and against restarts without end."""
    product = start(f"{point}=raise")
    with Workload(database.dsn(), seed=12, rows_per_s=100):
        code = product.wait(WAIT_S)

    said = [line for line in product.text().splitlines() if not line.startswith("{")]
    assert code == 1, product.tail()
    assert said == [
        f"pipeline {name} failed: root/{name}/{actor}: failed 6 times within 60 s, 5 allowed; "
        f"last failure: FailpointHit: failpoint {point}"
    ]


if FULL:

    @pytest.mark.fault("P26")
    @pytest.mark.slow
    def test_a_sink_that_crashes_too_often_is_named_through_both_supervisors(
        start: Callable[[str], Deltaforge], database: Database, name: str
    ) -> None:
        """Guards against a line that names the group of sinks and not the sink."""
        faulthandler.cancel_dump_traceback_later()
        product = start("sink.idle=raise")

        assert product.wait(150) == 1, product.tail()

        said = [line for line in product.text().splitlines() if not line.startswith("{")]
        assert said == [
            f"pipeline {name} failed: root/{name}/sinks/orders-kafka: failed 6 times within 60 s, 5 allowed; "
            "last failure: FailpointHit: failpoint sink.idle"
        ]


@pytest.fixture
def two(database: Database, tmp_path: Path) -> Iterator[tuple[Deltaforge, Path]]:
    """A directory with the pipelines `bad`, whose reader always crashes, and `good`, whose reader does so later."""
    make_tables(database.dsn())
    files = tmp_path / "pipelines"
    files.mkdir()
    for each in ("bad", "good"):
        document = yaml.safe_load((EXAMPLE.parent / "file-sink.yaml").read_text())
        document["metadata"]["name"] = each
        document["spec"]["source"]["config"]["slot"] = f"{each}_{database.name}"
        document["spec"]["sinks"][0]["config"]["path"] = str(tmp_path / f"{each}.jsonl")
        write(files / f"{each}.yaml", document)
    harm = {"DELTAFORGE_FAILPOINTS": "bad:reader.loop=raise,good:reader.loop=raise@40+"}
    product = Deltaforge(files, {"POSTGRES_DSN": database.dsn(), **harm}, name="two")
    product.start()
    yield product, tmp_path / "good.jsonl"
    product.close()


@pytest.mark.fault("P26")
def test_a_pipeline_that_fails_leaves_the_other_running(two: tuple[Deltaforge, Path], database: Database) -> None:
    """Guards against one broken pipeline that stops every other stream of the process."""
    product, output = two
    numbers = iter(range(1, 100_000))

    def insert() -> str:
        sql = "insert into orders (id, customer_id, total, created_at) values (%s, 1, 0, now())"
        database.execute(sql, [number := next(numbers)])
        return f'"id":{number},'

    # GIVEN one pipeline that has failed for good
    _until(lambda: _state(product, "bad") == "failed", product, product.tail)
    # WHEN a row is written
    last = insert()
    # THEN the other one takes it, and the process tells both stories
    _until(lambda: output.exists() and last in output.read_text(), product, product.tail)
    assert _state(product, "good") == "running"
    status, health = product.ask("/health")
    assert status == 200
    assert json.loads(health) == {
        "state": "degraded",
        "problems": [
            "pipeline bad is failed: root/bad/reader: failed 6 times within 60 s, 5 allowed; "
            "last failure: FailpointHit: failpoint reader.loop"
        ],
    }
    assert product.ask("/ready")[0] == 503

    # AND WHEN the other one fails too THEN nothing is left to do, and the process ends by itself
    deadline = time.monotonic() + WAIT_S
    while product.running and time.monotonic() < deadline:
        insert()
        time.sleep(0.02)
    assert product.wait() == 1
    said = [line.partition(" failed: ")[0] for line in product.text().splitlines() if not line.startswith("{")]
    assert said == ["pipeline bad", "pipeline good"]


def _state(product: Deltaforge, name: str) -> str:
    status, body = product.ask(f"/pipelines/{name}")
    return str(json.loads(body)["state"]) if status == 200 else ""


def _until(condition: Callable[[], bool], product: Deltaforge, found: Callable[[], str]) -> None:
    """Look again and again; the process has to live on meanwhile."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert product.running, f"ended with {product.wait()}:\n{product.tail()}"
        assert time.monotonic() < deadline, found()
        time.sleep(0.1)
