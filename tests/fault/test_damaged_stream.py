"""Bytes of the replication stream are damaged on a plain connection: TCP's checksum lets some through."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.fault.sizes import FULL, SEED
from tests.ledger.workload import make_tables
from tests.proxy.postgres import PostgresProxy
from tests.support.databases import create_database, drop_database
from tests.support.instances import Site, alive
from tests.support.orders import insert_orders, seen_orders, wait_for_orders, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deltaforge.embedded.kafka import KafkaCluster
    from deltaforge.embedded.postgres import PostgresServer
    from tests.support.instances import Pipeline
    from tests.support.process import Deltaforge

pytestmark = [pytest.mark.slow, pytest.mark.fault("N7")]

LSN = r"[0-9A-F]+/[0-9A-F]+"
_COPY_DATA, _PAYLOAD, _TAG = b"d", 5, 30
"""A message's letter and length, XLogData's header, and then the letter of what is in it."""
TOGETHER = 4
"""Crashes of one supervisor in one process; five are allowed within a minute."""


@dataclass(frozen=True)
class Flip:
    """One bit of one message."""

    name: str
    frame: bytes
    """Letter of the replication message: `DATA` or `KEEPALIVE`."""
    tag: bytes
    """Of what is in the data: B, I, C ..."""
    at: int
    """Byte of the message, its letter and length included."""
    mask: int
    told: str
    """What the log has to say of it; '' where nothing needs to be noticed."""

    def __call__(self, message: bytes) -> bytes | None:
        """The damaged message, if it is of this kind."""
        if message[:1] != _COPY_DATA or message[_PAYLOAD : _PAYLOAD + 1] != self.frame:
            return None
        if self.tag and message[_TAG : _TAG + 1] != self.tag:
            return None
        return message[: self.at] + bytes([message[self.at] ^ self.mask]) + message[self.at + 1 :]


_END = rf"COMMIT at {LSN} ends at {LSN}, but came in a frame that says {LSN} and {LSN}"
DATA, KEEPALIVE = b"w", b"k"
FLIPS = (
    Flip("keepalive's end", KEEPALIVE, b"", 6, 0x40, ""),
    Flip("COMMIT's end", DATA, b"C", 42, 0x10, _END),
    Flip("COMMIT's frame", DATA, b"C", 8, 0x01, _END),
    Flip("BEGIN's LSN", DATA, b"B", 36, 0x01, rf"COMMIT at {LSN} ends a transaction announced for {LSN}"),
    Flip("BEGIN's time", DATA, b"B", 44, 0x01, rf"COMMIT at {LSN} has another time than its BEGIN"),
    Flip("letter of the frame", DATA, b"I", 5, 0x40, r"unknown replication frame b'7'"),
    Flip("letter of the change", DATA, b"I", 30, 0x40, r"unknown pgoutput message"),
    Flip("relation of the change", DATA, b"I", 34, 0x01, r"a change names relation \d+, which no Relation message"),
    Flip("number of columns", DATA, b"I", 37, 0x01, r"cannot be read|another number of columns"),
    Flip("length of a value", DATA, b"I", 39, 0x40, r"a tuple ends early|longer than its message"),
    Flip("length of the message", DATA, b"I", 3, 0x01, r"longer than|connection to \S+ broke"),
)
CHOSEN = FLIPS if FULL else (*FLIPS[:2], FLIPS[2 + SEED % (len(FLIPS) - 2)])


@pytest.fixture
def site(kafka: KafkaCluster, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One database with the tables."""
    database = create_database(postgres)
    make_tables(database.dsn())
    with Site(kafka, database, tmp_path_factory.mktemp("damaged"), f"n{database.name[-8:]}") as made:
        yield made
    drop_database(database)


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[PostgresProxy]:
    """Between us and the server."""
    with PostgresProxy(postgres.host, postgres.port) as made:
        yield made


def _received(product: Deltaforge, pipeline: Pipeline) -> str:
    """How far the stream has come, by its own word."""
    return str(product.pipeline(pipeline.name)["positions"]["received"])


def _damage(site: Site, proxy: PostgresProxy, product: Deltaforge, pipeline: Pipeline, flip: Flip, order: int) -> None:
    """Have one bit flipped while this order is under way, and wait until it and the next one have arrived."""
    before, told = proxy.damaged, len(product.text())
    if flip.frame == DATA:
        proxy.damage(flip)
    insert_orders(site.database, [order])
    if flip.frame == KEEPALIVE:
        # One that something follows at once is left out: only an idle stream has one that counts.
        wait_for_orders(site.bootstrap, pipeline.topic, [order], lambda: alive(product))
        received = _received(product, pipeline)
        proxy.damage(flip)
        site.database.execute("select txid_current()")
        wait_until(lambda: _received(product, pipeline) != received, "it is received", lambda: alive(product))
    wait_until(lambda: proxy.damaged > before, f"{flip.name} is damaged", lambda: alive(product))
    insert_orders(site.database, [order + 1])
    wait_for_orders(site.bootstrap, pipeline.topic, [order, order + 1], lambda: alive(product))
    assert re.search(flip.told, product.text()[told:]), f"{flip.name}: not told\n{product.text()[told:]}"


def test_a_flipped_bit_makes_no_event_and_confirms_nothing_that_is_not(site: Site, proxy: PostgresProxy) -> None:
    """Guards against a position that is believed because it looks like one: PostgreSQL would forget what it covers."""
    pipeline = site.pipeline("damaged")
    dsn = site.database.dsn().replace(f":{site.database.server.port}/", f":{proxy.port}/")
    product = site.process(pipeline.file, name="damaged", extra={"POSTGRES_DSN": dsn})
    product.start()
    product.wait_ready()
    orders = range(1, 2 * len(CHOSEN), 2)
    for number, (flip, order) in enumerate(zip(CHOSEN, orders, strict=True)):
        # A new process after so many crashes: killed, so that the next one has to believe the record.
        if number and number % TOGETHER == 0:
            product.kill9()
            product.start()
            product.wait_ready()
        # WHEN a bit is flipped, THEN the rows come all the same, and nothing is confirmed that is not there yet
        _damage(site, proxy, product, pipeline, flip, order)
        assert _confirmed_is_real(site, pipeline)
    product.kill9()
    product.start()
    product.wait_ready()
    last = [2 * len(CHOSEN) + 1]
    insert_orders(site.database, last)
    wait_for_orders(site.bootstrap, pipeline.topic, last, lambda: alive(product))
    assert seen_orders(site.bootstrap, pipeline.topic) == [*range(1, 2 * len(CHOSEN) + 1), *last]
    assert product.term() == 0, product.tail()


def _confirmed_is_real(site: Site, pipeline: Pipeline) -> bool:
    """Wait for the next confirmation; says whether it is a position that the server has reached."""
    start = site.database.value("select pg_current_wal_insert_lsn()::text")
    site.database.execute("select pg_logical_emit_message(true, 'end', 'of the last one')")
    moved = "select confirmed_flush_lsn >= %s::pg_lsn from pg_replication_slots where slot_name = %s"
    wait_until(lambda: bool(site.database.value(moved, [start, pipeline.slot])), "it is confirmed", lambda: None)
    real = "select confirmed_flush_lsn <= pg_current_wal_lsn() from pg_replication_slots where slot_name = %s"
    return bool(site.database.value(real, [pipeline.slot]))
