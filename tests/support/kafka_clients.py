"""librdkafka settings for each listener of the test clusters, and a source of OAUTHBEARER tokens."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

from deltaforge.embedded.kafka_conf import Listener
from tests.support.canaries import canary
from tests.support.fix_tls import CLIENT_KEY_PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.support.fix_tls import Certificates

SCRAM_USER = "deltaforge"
SCRAM_PASSWORD = canary("Kafka user")


def plain_conf(cluster: KafkaCluster) -> dict[str, Any]:
    """For the PLAINTEXT listener."""
    return {"bootstrap.servers": cluster.bootstrap()}


def scram_conf(cluster: KafkaCluster, certificates: Certificates) -> dict[str, Any]:
    """For the SASL listener: SASL_SSL with SCRAM-SHA-512."""
    return {
        "bootstrap.servers": cluster.bootstrap(Listener.SASL),
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": SCRAM_USER,
        "sasl.password": SCRAM_PASSWORD,
        "ssl.ca.location": str(certificates.ca),
    }


def mtls_conf(cluster: KafkaCluster, certificates: Certificates) -> dict[str, Any]:
    """For the MTLS listener, with the encrypted client key."""
    return {
        "bootstrap.servers": cluster.bootstrap(Listener.MTLS),
        "security.protocol": "SSL",
        "ssl.ca.location": str(certificates.ca),
        "ssl.certificate.location": str(certificates.client.certificate),
        "ssl.key.location": str(certificates.client.encrypted_key),
        "ssl.key.password": CLIENT_KEY_PASSWORD,
    }


def oauth_conf(
    cluster: KafkaCluster, certificates: Certificates, token: Callable[[str], tuple[str, float]]
) -> dict[str, Any]:
    """For the OAUTH listener; `token` is librdkafka's `oauth_cb`."""
    return {
        "bootstrap.servers": cluster.bootstrap(Listener.OAUTH),
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "OAUTHBEARER",
        "ssl.ca.location": str(certificates.ca),
        "oauth_cb": token,
    }


class TokenSource:
    """Unsecured JWS tokens (`alg: none`), which the test broker takes; counts how many were asked for."""

    def __init__(self, subject: str = "deltaforge", lifetime_s: float = 3600.0) -> None:
        self.subject = subject
        self.lifetime_s = lifetime_s
        self.issued = 0

    def __call__(self, _: str = "") -> tuple[str, float]:
        """A token and its end in seconds since 1970, as `oauth_cb` must return them."""
        now = time.time()
        self.issued += 1
        claims = {"sub": self.subject, "iat": now, "exp": now + self.lifetime_s, "jti": str(self.issued)}
        return f"{_part({'alg': 'none'})}.{_part(claims)}.", now + self.lifetime_s


def _part(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")
