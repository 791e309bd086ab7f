"""The secrets canary over a run in which much goes wrong: servers that go, processes that are killed in every way.

Searched: all that `Watched` hears, every file that the process leaves in its directory, and what it writes to Kafka.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deltaforge.admin.guard import TOKEN_VARIABLE
from deltaforge.embedded.kafka_conf import Listener
from tests.fault.sizes import FULL
from tests.ledger.workload import make_tables
from tests.support.beside import Beside
from tests.support.canaries import canary, leaking_files, leaks
from tests.support.databases import CDC_USER
from tests.support.kafka_clients import SCRAM_PASSWORD, SCRAM_USER, scram_conf
from tests.support.kafka_topics import create_topic
from tests.support.orders import insert_orders, wait_for_orders
from tests.support.pipelines import kafka_config, local, with_security, write
from tests.support.process import Deltaforge
from tests.support.topics import read
from tests.support.watched import Watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.support.databases import Database
    from tests.support.fix_tls import Certificates

TOKEN = canary("API token")
NAME = "storm"
TOPIC = f"{NAME}.events"
CHECKPOINTS = f"_deltaforge.{NAME}.orders-kafka"
SIGNALS = [signal.SIGKILL, signal.SIGABRT, signal.SIGQUIT, signal.SIGSEGV]


@pytest.fixture
def cluster(make_kafka: Callable[..., KafkaCluster], certificates: Certificates) -> KafkaCluster:
    """One node that asks for a password over TLS; the test itself comes in without."""
    listeners = (Listener.PLAINTEXT, Listener.SASL)
    made = make_kafka(1, listeners=listeners, tls=certificates.server, scram_users={SCRAM_USER: SCRAM_PASSWORD})
    made.start()
    return made


@pytest.fixture
def product(
    database15: Database, cluster: KafkaCluster, certificates: Certificates, tmp_path: Path
) -> Iterator[Deltaforge]:
    """A pipeline whose every password is a canary, allowed to write core files into a directory of its own."""
    make_tables(database15.dsn())
    database15.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {CDC_USER}")
    create_topic(cluster.bootstrap(), TOPIC)
    conf = scram_conf(cluster, certificates)
    document = with_security(local(NAME, TOPIC), {key: conf[key] for key in conf if key != "bootstrap.servers"})
    # librdkafka's own account of its life. It goes nowhere today; if it ever does, it is searched.
    kafka_config(document)["client_conf"] |= {"debug": "all", "sasl.password": "${KAFKA_PASSWORD}"}
    (home := tmp_path / "home").mkdir()
    made = Deltaforge(
        write(tmp_path / "pipeline.yaml", document),
        {
            "POSTGRES_DSN": database15.cdc_dsn(),
            "KAFKA_BROKERS": conf["bootstrap.servers"],
            "KAFKA_PASSWORD": SCRAM_PASSWORD,
            TOKEN_VARIABLE: TOKEN,
        },
        arguments=["--log-level", "debug", "--stall-after", "5"],
        wrapper=["env", "-C", str(home), "prlimit", "--core=unlimited"],
        name="secrets-storm",
    )
    yield made
    made.close()


class Watch(Beside):
    """Asks every page again and again, while a test does other things."""

    def __init__(self, watched: Watched) -> None:
        super().__init__()
        self._watched = watched

    def work(self) -> None:
        """Three times a second."""
        while not self.stop.wait(0.3):
            self._watched.look([NAME])


def _headers(headers: tuple[tuple[str, bytes], ...]) -> list[bytes]:
    return [part for name, value in headers for part in (name.encode(), value)]


# Minutes of restarts: too long for the quick size, in which test_secrets.py has the single faults.
if FULL:

    @pytest.mark.slow
    @pytest.mark.fault("P21", "K1", "G3")
    def test_no_password_leaves_a_process_in_a_storm(
        product: Deltaforge, database15: Database, cluster: KafkaCluster, tmp_path: Path
    ) -> None:
        """Guards against a password in whatever is said, written or left behind when things go wrong."""
        faulthandler.cancel_dump_traceback_later()
        watched = Watched(product, token=TOKEN)
        product.start()
        # Only what is written after the first start is streamed.
        product.wait_ready()
        number = 0

        def delivers() -> None:
            nonlocal number
            number += 1
            insert_orders(database15, [number])
            wait_for_orders(cluster.bootstrap(), TOPIC, range(1, number + 1), lambda: None)

        # GIVEN a pipeline at work, of which only its owner may see the environment
        delivers()
        assert stat.S_IMODE(os.stat(f"/proc/{product.pid}/environ").st_mode) == 0o400
        # Whoever it started would have the environment too.
        assert Path(f"/proc/{product.pid}/task/{product.pid}/children").read_text() == ""
        for number_of_signal in SIGNALS:
            with Watch(watched):
                # WHEN its stream is cut, the broker goes and comes back
                database15.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
                delivers()
                if number_of_signal is SIGNALS[0]:
                    cluster.kill_node(1)
                    cluster.start_node(1)
                    cluster.wait_ready()
                    delivers()
            # AND the process is ended by a signal, and started again
            os.kill(product.pid, number_of_signal)
            assert product.wait() == -number_of_signal
            product.start()
            delivers()
        watched.look([NAME])
        assert product.term() == 0

        # THEN there is no password in what it said, in what it left, and in what it wrote to Kafka
        assert "Current thread" in product.text()
        assert "administrator command" in product.text()
        assert not watched.leaks()
        assert not leaking_files(tmp_path / "home")
        written = [*read(cluster.bootstrap(), TOPIC), *read(cluster.bootstrap(), CHECKPOINTS)]
        told = b"\n".join(
            part for record in written for part in (record.key, record.value, *_headers(record.headers)) if part
        )
        assert b"flush_lsn" in told
        assert not leaks(told.decode("utf-8", "replace"))
