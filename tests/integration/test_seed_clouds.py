"""The example's fragments for hosted Kafka: Confluent's validates, MSK's works with a stand-in for AWS's signer."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from deltaforge.embedded.kafka_conf import Listener
from tests.ledger.workload import make_tables
from tests.support.kafka_topics import create_topic
from tests.support.mounts import placed
from tests.support.pipelines import kafka_config, seed, with_security, write
from tests.support.process import REPOSITORY, Deltaforge
from tests.support.topics import LiveReader

if TYPE_CHECKING:
    from pathlib import Path

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.support.databases import Database
    from tests.support.fix_tls import Certificates

CONFLUENT = {
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "PLAIN",
    "sasl.username": "${CONFLUENT_API_KEY}",
    "sasl.password": "${CONFLUENT_API_SECRET}",
}
MSK = {
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "AWS_MSK_IAM",
    "sasl.jaas.config": "software.amazon.msk.auth.iam.IAMLoginModule required;",
    "sasl.client.callback.handler.class": "software.amazon.msk.auth.iam.IAMClientCallbackHandler",
}
TOKEN_LIFE_S = 3.0
# Stands where AWS's signer would be: tokens that the test's listener takes, each use counted in a file.
SIGNER = f"""
import base64, json, os, time

def _part(content):
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

def generate_auth_token(region, **_):
    with open(os.environ["TOKENS_ISSUED"], "a") as file:
        file.write(region + "\\n")
    now = time.time()
    claims = {{"sub": "deltaforge", "iat": now, "exp": now + {TOKEN_LIFE_S}}}
    return _part({{"alg": "none"}}) + "." + _part(claims) + ".", int((now + {TOKEN_LIFE_S}) * 1000)
"""


def _validate(file: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    servers = {"POSTGRES_DSN": "postgres://u:p@localhost/orders", "KAFKA_BROKERS": "localhost:9092"}
    return subprocess.run(
        [sys.executable, "-m", "deltaforge", "validate", str(file)],
        env={**servers, **environment},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_confluent_cloud_fragment_validates(tmp_path: Path) -> None:
    """Guards against a check that is stricter than librdkafka."""
    file = write(tmp_path / "confluent.yaml", with_security(seed(), CONFLUENT))
    result = _validate(file, CONFLUENT_API_KEY="key", CONFLUENT_API_SECRET="secret-canary")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "secret-canary" not in result.stdout + result.stderr


def test_the_msk_fragment_validates_once_a_region_is_known(tmp_path: Path) -> None:
    """Guards against the Java names of the fragment being refused as unknown keys."""
    file = write(tmp_path / "msk.yaml", with_security(seed(), MSK))
    assert _validate(file, AWS_REGION="eu-central-1").returncode == 0
    nowhere = _validate(file)
    assert nowhere.returncode == 2
    assert "AWS_REGION" in nowhere.stdout


@pytest.mark.slow
def test_the_msk_fragment_lives_on_while_its_tokens_run_out(
    kafka3: KafkaCluster, database: Database, certificates: Certificates, topic_prefix: str, tmp_path: Path
) -> None:
    """Guards against a token that is fetched once: the connection would die with it hours after the start."""
    # GIVEN the fragment, a listener that wants OAUTHBEARER, and tokens that live three seconds
    make_tables(database.dsn())
    document = with_security(seed(), MSK)
    document["metadata"]["name"] = f"msk-{topic_prefix}"
    kafka_config(document)["topic"] = create_topic(kafka3.bootstrap(), f"{topic_prefix}.events", 3)
    package = tmp_path / "python" / "aws_msk_iam_sasl_signer"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from . import MSKAuthTokenProvider\n")
    (package / "MSKAuthTokenProvider.py").write_text(SIGNER)
    issued = tmp_path / "issued"
    issued.touch()
    environment = {
        "POSTGRES_DSN": database.cdc_dsn(),
        "KAFKA_BROKERS": kafka3.bootstrap(Listener.OAUTH),
        "AWS_REGION": "eu-central-1",
        "TOKENS_ISSUED": str(issued),
        "PYTHONPATH": f"{package.parent}:{REPOSITORY}",
    }
    file = write(tmp_path / "msk.yaml", document)
    wrapper = placed({"/etc/ssl/certs/ca-certificates.crt": certificates.ca})
    with Deltaforge(file, environment, wrapper=wrapper, name="msk") as product:
        product.wait_ready()
        # WHEN the tokens have been renewed three times after rows have moved
        with LiveReader(kafka3.bootstrap(), kafka_config(document)["topic"]) as reader:
            for number in range(1, 5):
                before = len(issued.read_text().splitlines())
                database.execute(f"insert into payments (id, order_id, amount) values (gen_random_uuid(), {number}, 1)")
                reader.wait_for(number)
                _wait_for_lines(issued, before + 1, product)
        # THEN every row went through and the product is still fine
        assert set(issued.read_text().split()) == {"eu-central-1"}
        assert product.term() == 0, product.tail()


def _wait_for_lines(file: Path, count: int, product: Deltaforge) -> None:
    deadline = time.monotonic() + 60
    while len(file.read_text().splitlines()) < count:
        assert product.running, product.tail()
        assert time.monotonic() < deadline, f"no new token for a minute:\n{product.tail()}"
        time.sleep(0.1)
