"""The secrets canary: everything that goes wrong around a password, and no trace of it in anything the product says.

Searched: standard output and error, every answer of the admin HTTP, metrics among them, and the line that `ps` shows.
The environment is not: that is where the passwords are given.
"""

from __future__ import annotations

import base64
import copy
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from deltaforge.embedded.kafka_conf import Listener
from tests.ledger.workload import make_tables
from tests.support.canaries import canary, leaking_files, leaks
from tests.support.databases import CDC_PASSWORD, CDC_USER
from tests.support.kafka_clients import SCRAM_PASSWORD, SCRAM_USER, mtls_conf, scram_conf
from tests.support.kafka_topics import create_topic
from tests.support.pipelines import kafka_config, local, with_security, write
from tests.support.process import REPOSITORY, Deltaforge
from tests.support.watched import Watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.support.databases import Database
    from tests.support.fix_tls import Certificates

WAIT_S = 120.0
DSN = canary("DSN")
WRONG_KAFKA = canary("wrong Kafka password")
WRONG_KEY = canary("wrong key password")
NO_SERVER = f"postgresql://cdc:{DSN}@127.0.0.1:1/orders"

BAD_DSNS = {
    "one slash": f"postgresql:/u:{DSN}@h/db",
    "a driver": f"postgresql+asyncpg://u:{DSN}@h/db",
    "a bad escape": f"postgresql://u:{DSN}%zz@h/db",
    "a bare percent": f"postgresql://u:{DSN}%@h/db",
    "an at too many": f"postgresql://u:x@{DSN}@h/db",
    "a slash": f"postgresql://u:x/{DSN}@h/db",
    "a question mark": f"postgresql://u:x?{DSN}@h/db",
    "a colon": f"postgresql://u@h:{DSN}/db",
    "an open bracket": f"postgresql://u:{DSN}@[::1/db",
    "an unknown keyword": f"postgresql://h/db?pasword={DSN}",
    "a keyword twice": f"postgresql://h/db?password={DSN}&password={DSN}",
    "a wrong value": f"postgresql://h/db?sslmode={DSN}",
    "no host": f"postgresql://u:{DSN}@/db",
    "no database": f"postgresql://u:{DSN}@h",
    "words": f"host=h dbname=db passwd={DSN}",
    "an open quote": f"host=h dbname=db password='{DSN}",
    "a stray word": f"host=h dbname=db password=x {DSN}",
    "a refused keyword": f"host=h dbname=db options={DSN}",
    "no address at all": DSN,
    "a line break": f"postgresql://u:{DSN}@h/db\n",
    "bytes that are no text": f"postgresql://u:{DSN}%ff@h/db",
}
BESIDE = {
    "sasl.pasword": WRONG_KAFKA,
    "acks": WRONG_KAFKA,
    "security.protocol": WRONG_KAFKA,
    "sasl.mechanism": WRONG_KAFKA,
    "linger.ms": WRONG_KAFKA,
    "enable.idempotence": WRONG_KAFKA,
    "compression.type": WRONG_KAFKA,
    "debug": WRONG_KAFKA,
    "plugin.library.paths": WRONG_KAFKA,
    "sasl.kerberos.kinit.cmd": WRONG_KAFKA,
    "sasl.jaas.config": f'x required username="u" password="{WRONG_KAFKA}";',
    WRONG_KAFKA: "x",
}


def _call(*arguments: str | Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deltaforge", *map(str, arguments), "--log-level", "debug"]
    kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    environment = kept | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, cwd=REPOSITORY, env=environment)


def _bad_files(folder: Path) -> dict[str, str]:
    """A file for every malformed address and every mistake beside a secret; returns their environment."""
    folder.mkdir()
    environment = {"KAFKA_BROKERS": "127.0.0.1:1"}
    for number, dsn in enumerate(BAD_DSNS.values()):
        document = local(f"dsn-{number}", "t")
        document["spec"]["source"]["config"]["dsn"] = f"${{DSN_{number}}}"
        environment[f"DSN_{number}"] = dsn
        write(folder / f"dsn-{number:02}.yaml", document)
        if dsn.isprintable():
            document["spec"]["source"]["config"]["dsn"] = dsn
            write(folder / f"inline-{number:02}.yaml", document)
    environment["POSTGRES_DSN"] = NO_SERVER
    for number, (key, value) in enumerate(BESIDE.items()):
        document = local(f"beside-{number}", "t")
        kafka_config(document)["client_conf"] |= {"sasl.password": WRONG_KAFKA, key: value}
        write(folder / f"beside-{number:02}.yaml", document)
    document = local("fields", "t")
    sink = kafka_config(document)
    sink |= {"password": WRONG_KAFKA, "brokers": f"u:{WRONG_KAFKA}@h:9092", "required": WRONG_KAFKA}
    document["metadata"] |= {"password": DSN, "name": f"{DSN}.x"}
    document["spec"]["source"]["config"] |= {"password": DSN, "slot": DSN.upper(), "tables": [DSN]}
    write(folder / "fields.yaml", document)
    (folder / "broken.yaml").write_text(f"spec: {{dsn: [{NO_SERVER}\n")
    return environment


@pytest.mark.parametrize("command", ["validate", "run"])
def test_a_refused_file_does_not_quote_a_password(command: str, tmp_path: Path) -> None:
    """Guards against libpq's and our own habit to show what could not be read."""
    environment = _bad_files(tmp_path / "bad")

    done = _call(command, tmp_path / "bad", environment=environment)

    found = leaks(done.stdout + done.stderr)
    said = (done.stdout + done.stderr).splitlines()
    assert done.returncode == 2
    assert not found, "\n".join([*found, *(line for line in said if leaks(line))])
    for file in (tmp_path / "bad").iterdir():
        assert any(file.name in line for line in said), f"{file.name} was taken for good"


@pytest.fixture
def cluster(make_kafka: Callable[..., KafkaCluster], certificates: Certificates) -> KafkaCluster:
    """One node that asks for a password or a certificate."""
    listeners = (Listener.SASL, Listener.MTLS)
    made = make_kafka(1, listeners=listeners, tls=certificates.server, scram_users={SCRAM_USER: SCRAM_PASSWORD})
    made.start()
    return made


def _troubles(
    database: Database, cluster: KafkaCluster, certificates: Certificates, folder: Path
) -> dict[str, dict[str, Any]]:
    """A pipeline for everything that can be wrong with a login, by name."""
    garbage = folder / "garbage.pem"
    garbage.write_text(f"-----BEGIN CERTIFICATE-----\n{canary('certificate')}\n-----END CERTIFICATE-----\n")
    good, scram, mtls = database.cdc_dsn(), scram_conf(cluster, certificates), mtls_conf(cluster, certificates)
    wrong = good.replace(quote(CDC_PASSWORD, safe=""), DSN)
    assert wrong != good
    postgres = {
        "pg-password": wrong,
        "pg-user": good.replace(CDC_USER, "nobody", 1),
        "pg-ca-stranger": database.cdc_dsn(sslrootcert=str(certificates.stranger_ca)),
        "pg-ca-garbage": database.cdc_dsn(sslrootcert=str(garbage)),
        "pg-ca-missing": database.cdc_dsn(sslrootcert=str(folder / "missing.pem")),
        "pg-no-tls": database.cdc_dsn(sslmode="disable"),
    }
    kafka = {
        "kafka-password": scram | {"sasl.password": WRONG_KAFKA},
        "kafka-user": scram | {"sasl.username": "nobody"},
        "kafka-ca-stranger": scram | {"ssl.ca.location": str(certificates.stranger_ca)},
        "kafka-ca-garbage": scram | {"ssl.ca.location": str(garbage)},
        "kafka-ca-missing": scram | {"ssl.ca.location": str(folder / "missing.pem")},
        "kafka-key-password": mtls | {"ssl.key.password": WRONG_KEY},
    }
    found = {name: _pipeline(name, dsn, scram) for name, dsn in postgres.items()}
    return found | {name: _pipeline(name, good, conf) for name, conf in kafka.items()}


def _pipeline(name: str, dsn: str, conf: dict[str, Any]) -> dict[str, Any]:
    security = {key: value for key, value in conf.items() if key != "bootstrap.servers"}
    document = with_security(local(name, "orders"), security)
    kafka_config(document)["brokers"] = conf["bootstrap.servers"]
    document["spec"]["source"]["config"]["dsn"] = dsn
    return document


@pytest.mark.fault("K15")
@pytest.mark.slow
def test_logins_that_fail_in_every_way_show_no_password(
    database15: Database, cluster: KafkaCluster, certificates: Certificates, tmp_path: Path
) -> None:
    """Guards against a driver's own words about a login, in logs, status pages, metrics and the process list."""
    make_tables(database15.dsn())
    database15.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {CDC_USER}")
    create_topic(cluster.bootstrap(), "orders")
    folder = tmp_path / "troubles"
    folder.mkdir()
    troubles = _troubles(database15, cluster, certificates, tmp_path)
    for name, document in troubles.items():
        write(folder / f"{name}.yaml", copy.deepcopy(document))

    with Deltaforge(folder, {}, arguments=["--log-level", "debug"], name="secrets-logins") as product:
        watched = Watched(product)
        _until(lambda: _all_tell(watched, list(troubles)), watched)
        code = product.term()

    assert code == 3
    assert not watched.leaks()


def _all_tell(watched: Watched, names: list[str]) -> bool:
    """Whether every pipeline has said what its trouble is."""
    if watched.product.ask("/pipelines")[0] != 200:
        return False
    watched.look(names)
    views = [watched.product.pipeline(name) for name in names]
    return all(view["state"] == "blocked" for view in views)


@pytest.fixture
def working(
    database15: Database, kafka: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> Iterator[Callable[..., Deltaforge]]:
    """Starts a pipeline whose passwords are right, with failpoints."""
    make_tables(database15.dsn())
    database15.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {CDC_USER}")
    topic = create_topic(kafka.bootstrap(), f"{topic_prefix}.events")
    file = write(tmp_path / "pipeline.yaml", local(topic_prefix, topic))
    servers = {"POSTGRES_DSN": database15.cdc_dsn(), "KAFKA_BROKERS": kafka.bootstrap()}
    made: list[Deltaforge] = []

    def begin(failpoints: str = "", *arguments: str) -> Deltaforge:
        environment = servers | {"DELTAFORGE_FAILPOINTS": failpoints}
        made.append(Deltaforge(file, environment, arguments=["--log-level", "debug", *arguments], name="secrets-crash"))
        made[-1].start()
        return made[-1]

    yield begin
    for product in made:
        product.close()


def test_a_crash_before_anything_runs_shows_no_password(working: Callable[..., Deltaforge]) -> None:
    """Guards against a traceback with the values of the configuration in it."""
    product = working("cli.serve=raise")

    assert product.wait() == 1
    assert "Traceback" in product.text()
    assert "FailpointHit" in product.text()
    assert not Watched(product).leaks()


def test_the_stacks_of_a_process_that_is_killed_by_a_signal_show_no_password(
    working: Callable[..., Deltaforge], topic_prefix: str
) -> None:
    """Guards against a core's little brother: what faulthandler writes at SIGABRT."""
    watched = Watched(product := working())
    product.wait_ready()
    watched.look([topic_prefix])
    os.kill(product.pid, signal.SIGABRT)

    assert product.wait() == -signal.SIGABRT
    assert "Current thread" in product.text()
    assert not watched.leaks()


@pytest.mark.fault("P27")
def test_the_stacks_of_a_process_that_stands_still_show_no_password(working: Callable[..., Deltaforge]) -> None:
    """Guards against the watchdog's report."""
    product = working("reader.loop=block", "--stall-after", "2")

    assert product.wait() == 1
    assert "the event loop did not turn" in product.text()
    assert "stream.py" in product.text()
    assert not Watched(product).leaks()


LEAKY = """
import os, sys
from deltaforge import logs, stderr
from deltaforge.config.dsn import parse_dsn
if sys.argv[1] == "leaky":
    logs.redact = stderr.redact = lambda text: text
logs.configure("json", "info")
password = parse_dsn(os.environ["POSTGRES_DSN"]).password
logs.get_logger("planted").info("connecting", password=password.reveal())
stderr.flush(10)
"""


@pytest.mark.parametrize("how", ["leaky", "covered"])
def test_the_search_finds_a_planted_leak(how: str, tmp_path: Path) -> None:
    """Guards against a canary that cannot die: the same line, with and without the cover."""
    with (tmp_path / "planted.log").open("wb") as log:
        subprocess.run(
            [sys.executable, "-c", LEAKY, how],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "POSTGRES_DSN": NO_SERVER},
            stderr=log,
            check=True,
            timeout=WAIT_S,
        )

    found = leaking_files(tmp_path)
    assert '"event":"connecting"' in (tmp_path / "planted.log").read_text().replace(" ", "")
    assert found if how == "leaky" else not found


@pytest.mark.parametrize("before", ["", "a", "ab"])
def test_the_search_sees_through_other_spellings(before: str) -> None:
    """Guards against a password that leaves in an encoding nobody looks for."""

    secret = CDC_PASSWORD
    for text in (
        base64.b64encode(f"{before}{secret}:more".encode()).decode(),
        quote(f"{before}{secret}", safe=""),
        f"postgres://u:{quote(secret)}@h",
        secret.encode().hex(),
        repr({"password": f"{before}{secret}"}),
        f"{before}{secret[:20]}",
    ):
        assert leaks(text), "not found in one of the spellings"
    assert not leaks(f"{before}nothing of it")


def _until(condition: Callable[[], bool], watched: Watched) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert watched.product.running, f"ended with {watched.product.wait()}:\n{watched.product.tail()}"
        assert time.monotonic() < deadline, watched.heard[-8:]
        time.sleep(0.5)
