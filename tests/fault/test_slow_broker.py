"""A line to the broker that is too narrow for what a Kafka transaction may hold."""

from __future__ import annotations

import faulthandler
import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.fault.sizes import FULL
from tests.ledger.workload import make_tables
from tests.proxy.faults import TO_SERVER
from tests.support.kafka_topics import create_topic
from tests.support.pipelines import kafka_config, local, write
from tests.support.process import Deltaforge
from tests.support.topics import LiveReader, read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.proxy.cluster import ProxiedKafka
    from tests.support.databases import Database

BYTES_PER_S = 150_000
SEND_TIMEOUT_S = 3
TRANSACTIONS, ROWS = 40, 50
"""About six megabytes, of which the line takes less than a tenth within the time that is allowed."""
STALLED_S = 180.0
"""What was given up is still on the line, and takes its time."""
_INSERT = """insert into orders (id, customer_id, total, note, created_at)
  select %s::bigint + n, 1, n, (select string_agg(md5(random()::text), '') from generate_series(1, 90 + 0 * n)), now()
  from generate_series(1, %s) n"""

if FULL:

    @pytest.mark.slow
    @pytest.mark.fault("K9")
    @pytest.mark.parametrize("rows", [ROWS, ROWS * TRANSACTIONS], ids=["many transactions", "one transaction"])
    def test_a_line_too_narrow_for_a_kafka_transaction_gets_smaller_ones(
        rows: int,
        proxied_kafka: ProxiedKafka,
        database: Database,
        topic_prefix: str,
        tmp_path: Path,
        record_property: Callable[[str, object], None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Guards against a transaction that is given up for being slow and made again as large as it was, for ever."""
        # Longer than pytest's own patience.
        faulthandler.cancel_dump_traceback_later()
        make_tables(database.dsn())
        name, topic = f"slow-{topic_prefix}", create_topic(proxied_kafka.direct, f"{topic_prefix}.events", 1)
        document = local(name, topic)
        kafka_config(document)["send_timeout_secs"] = SEND_TIMEOUT_S
        # No Kafka transaction is smaller than a batch.
        document["spec"]["batch"] = {"max_bytes": 200_000}
        servers = {"POSTGRES_DSN": database.dsn(), "KAFKA_BROKERS": proxied_kafka.bootstrap}
        product = Deltaforge(write(tmp_path / "pipeline.yaml", document), servers, name="slow")
        with product, LiveReader(proxied_kafka.direct, topic) as reader:
            product.wait_ready()
            # GIVEN a backlog, and a line that takes as much in half a minute
            proxied_kafka.proxy().throttle(BYTES_PER_S, [TO_SERVER])
            for number in range(ROWS * TRANSACTIONS // rows):
                database.execute(_INSERT, (number * rows, rows))
            # THEN it gets through
            reader.wait_for(ROWS * TRANSACTIONS, stalled_s=STALLED_S)
            proxied_kafka.heal()
            given_up = product.text().count("rewinding")
            assert product.term() == 0, product.tail()
        found = Counter(json.loads(record.value or b"")["after"]["id"] for record in read(proxied_kafka.direct, topic))
        lost, doubled = ROWS * TRANSACTIONS - len(found), found.total() - len(found)
        record_property("verdict", {"lost": lost, "doubled": doubled})
        with capsys.disabled():
            print(f"\n{ROWS * TRANSACTIONS // rows} transactions, {given_up} given up: {lost=}, {doubled=}")
        assert not lost
        assert not doubled
        assert given_up, "the line was wide enough"
