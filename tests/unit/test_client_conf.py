"""`client_conf` into librdkafka's settings. A real producer says whether they are right; none connects anywhere."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaException, Producer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import example, given
from hypothesis import strategies as st

from deltaforge.config.properties import ClientProperties
from deltaforge.config.schema import KafkaSinkConfig
from deltaforge.config.templates import TopicTemplate
from deltaforge.errors import ConfigError
from deltaforge.sinks.kafka.client_conf import ClientConf, MskIam, build_client_conf, check_client_conf
from deltaforge.sinks.kafka.properties import ALIASES, CONSUMER_ONLY, HOOKS, PROPERTIES

if TYPE_CHECKING:
    from pathlib import Path

JAAS = "software.amazon.msk.auth.iam.IAMLoginModule required;"
HANDLER = "software.amazon.msk.auth.iam.IAMClientCallbackHandler"
SCRAM = {
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "SCRAM-SHA-512",
    "sasl.username": "u",
    "sasl.password": "canary-pw",
    "ssl.ca.location": "/etc/ssl/certs/kafka-ca.pem",
    "ssl.endpoint.identification.algorithm": "https",
}
SEED_MAIN = {
    **SCRAM,
    "acks": "all",
    "enable.idempotence": "true",
    "retries": "2147483647",
    "retry.backoff.ms": "100",
    "delivery.timeout.ms": "300000",
    "request.timeout.ms": "30000",
    "batch.size": "65536",
    "linger.ms": "10",
    "compression.type": "lz4",
    "queue.buffering.max.messages": "100000",
    "queue.buffering.max.kbytes": "1048576",
}
MTLS = {
    "security.protocol": "SSL",
    "ssl.ca.location": "/etc/ssl/certs/kafka-ca.pem",
    "ssl.certificate.location": "/etc/ssl/certs/client.pem",
    "ssl.key.location": "/etc/ssl/private/client.key",
    "ssl.key.password": "key-pw",
}
MSK = {
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "AWS_MSK_IAM",
    "sasl.jaas.config": JAAS,
    "sasl.client.callback.handler.class": HANDLER,
}
CONFLUENT = {
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "PLAIN",
    "sasl.username": "key",
    "sasl.password": "api-secret",
}
THROUGHPUT = {"acks": "1", "batch.size": "131072", "linger.ms": "50", "compression.type": "lz4"}
LATENCY = {"acks": "1", "batch.size": "16384", "linger.ms": "0", "compression.type": "none"}
DURABILITY = {
    "acks": "all",
    "enable.idempotence": "true",
    "max.in.flight.requests.per.connection": "5",
    "retries": "2147483647",
}


def sink(
    conf: dict[str, Any] | None = None, *, exactly_once: bool = False, brokers: str = "127.0.0.1:1"
) -> KafkaSinkConfig:
    topic = TopicTemplate.parse("t")
    return KafkaSinkConfig(
        id="k", brokers=brokers, topic=topic, exactly_once=exactly_once, client_conf=ClientProperties(conf or {})
    )


def build(conf: dict[str, Any] | None = None, **options: Any) -> ClientConf:
    return build_client_conf(sink(conf, **options), transactional_id="deltaforge.p.k", aws_region="eu-west-1")


def complaints(conf: dict[str, Any], **options: Any) -> list[str]:
    return [f"{f.where}: {f.message}" for f in check_client_conf(sink(conf, **options), {"AWS_REGION": "eu-west-1"})]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files for the paths that the seed document names."""
    directory: Path = tmp_path_factory.mktemp("certificates")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    encrypted = serialization.BestAvailableEncryption(b"key-pw")
    key_pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encrypted)
    files = {
        "/etc/ssl/certs/kafka-ca.pem": pem,
        "/etc/ssl/certs/client.pem": pem,
        "/etc/ssl/private/client.key": key_pem,
    }
    for path, content in files.items():
        (directory / path.rpartition("/")[2]).write_bytes(content)
    return {path: str(directory / path.rpartition("/")[2]) for path in files}


def accepted(properties: dict[str, str | bool], certificates: dict[str, str]) -> None:
    """librdkafka makes a producer of these settings. Raises KafkaException when it does not."""
    Producer({**{name: certificates.get(str(value), value) for name, value in properties.items()}, "log_level": "0"})


@pytest.mark.parametrize(
    ("conf", "exactly_once"),
    [
        pytest.param(SEED_MAIN, True, id="main"),
        pytest.param({**SEED_MAIN, "acks": -1, "enable.idempotence": True, "linger.ms": 0.5}, True, id="not text"),
        pytest.param(SCRAM, True, id="scram"),
        pytest.param(MTLS, True, id="mtls"),
        pytest.param(MSK, True, id="msk"),
        pytest.param(CONFLUENT, True, id="confluent cloud"),
        pytest.param({**SCRAM, **THROUGHPUT}, False, id="high throughput"),
        pytest.param({**SCRAM, **LATENCY}, False, id="low latency"),
        pytest.param({**SCRAM, **DURABILITY}, True, id="max durability"),
        pytest.param({}, True, id="nothing, exactly once"),
        pytest.param({}, False, id="nothing, at least once"),
        pytest.param({"delivery.timeout.ms": 0}, True, id="no delivery timeout"),
        pytest.param({"socket.timeout.ms": 300_000, "transaction.timeout.ms": 300_000}, True, id="socket timeout"),
        pytest.param({"transaction.timeout.ms": 20_000}, True, id="short transactions"),
        pytest.param({"max.in.flight": 10, "retries": 0}, False, id="idempotence off"),
        pytest.param({"allow.auto.create.topics": False, "partitioner": "murmur2"}, False, id="what we set anyway"),
    ],
)
def test_librdkafka_makes_a_producer_of_every_configuration_we_accept(
    conf: dict[str, Any], exactly_once: bool, certificates: dict[str, str]
) -> None:
    """Guards against `validate` that says yes and a start that fails."""
    built = build(conf, exactly_once=exactly_once)
    assert complaints(conf, exactly_once=exactly_once) == []
    accepted(built.reveal(), certificates)
    accepted(built.reveal_plain_producer(), certificates)
    accepted(built.reveal_checkpoint_producer(), certificates)
    assert ("transactional.id" in built.reveal()) is exactly_once


def test_transactions_last_as_long_as_a_delivery_may(certificates: dict[str, str]) -> None:
    """Guards against the seed document's file not starting: librdkafka wants message <= transaction timeout."""
    with pytest.raises(KafkaException, match=r"message\.timeout\.ms"):
        accepted({"bootstrap.servers": "127.0.0.1:1", "transactional.id": "t", "delivery.timeout.ms": "300000"}, {})
    built = build({"delivery.timeout.ms": "600000"}, exactly_once=True)
    assert built.transaction_timeout_ms == 600_000
    accepted(built.reveal(), certificates)
    assert build({"delivery.timeout.ms": "1000"}, exactly_once=True).transaction_timeout_ms == 300_000
    assert build({}, exactly_once=True).transaction_timeout_ms == 300_000


def test_the_brokers_limit_is_respected() -> None:
    """Guards against INVALID_TRANSACTION_TIMEOUT from the broker, minutes after the start."""
    assert complaints({"delivery.timeout.ms": "900000"}, exactly_once=True) == []
    for name in ("delivery.timeout.ms", "transaction.timeout.ms"):
        (found,) = complaints({name: "900001"}, exactly_once=True)
        assert "transaction.max.timeout.ms" in found
        assert complaints({name: "900001"}) == []
    built = build_client_conf(
        sink({"acks": "all"}, exactly_once=True), transactional_id="t", broker_max_transaction_timeout_ms=60_000
    )
    assert built.transaction_timeout_ms == 60_000
    assert built.properties["message.timeout.ms"] == "60000"


@pytest.mark.parametrize(
    ("conf", "where", "also"),
    [
        ({"acks": "1"}, "client_conf.acks", "exactly_once"),
        ({"request.required.acks": 1}, "client_conf.request.required.acks", "exactly_once"),
        ({"enable.idempotence": "false"}, "client_conf.enable.idempotence", "exactly_once"),
        ({"max.in.flight": 6}, "client_conf.max.in.flight", "exactly_once"),
        ({"retries": "0"}, "client_conf.retries", "exactly_once"),
        ({"queuing.strategy": "lifo"}, "client_conf.queuing.strategy", "exactly_once"),
        (
            {"queue.buffering.backpressure.threshold": 2},
            "client_conf.queue.buffering.backpressure.threshold",
            "exactly_once",
        ),
        (
            {"transaction.timeout.ms": 60_000, "delivery.timeout.ms": 60_001},
            "client_conf.delivery.timeout.ms",
            "client_conf.transaction.timeout.ms",
        ),
        (
            {"transaction.timeout.ms": 60_000, "socket.timeout.ms": 60_001},
            "client_conf.socket.timeout.ms",
            "client_conf.transaction.timeout.ms",
        ),
        ({"linger.ms": 5000, "delivery.timeout.ms": 1000}, "client_conf.linger.ms", "client_conf.delivery.timeout.ms"),
    ],
)
def test_settings_that_exclude_each_other_are_both_named(conf: dict[str, Any], where: str, also: str) -> None:
    """Guards against librdkafka's message, which names neither the file's line nor the user's word."""
    (finding,) = check_client_conf(sink(conf, exactly_once=True), {})
    assert finding.where == where
    assert finding.also == (also,)
    with pytest.raises(ConfigError, match="client_conf"):
        build(conf, exactly_once=True)


def test_idempotence_asked_for_excludes_acks_1() -> None:
    """Guards against a user's wish that is silently dropped."""
    (finding,) = check_client_conf(sink({"acks": "1", "enable.idempotence": "true"}), {})
    assert (finding.where, finding.also) == ("client_conf.acks", ("client_conf.enable.idempotence",))


@pytest.mark.parametrize(("conf", "idempotent", "in_flight"), [
    ({}, "true", None),
    ({"acks": "all"}, "true", None),
    ({"acks": "1"}, "false", "1"),
    ({"acks": "1", "max.in.flight": 3}, "false", "3"),
    ({"enable.idempotence": "false"}, "false", "1"),
    ({"enable.idempotence": "false", "max.in.flight.requests.per.connection": "5"}, "false", "5"),
    ({"max.in.flight": "100"}, "false", "100"),
    ({"enable.idempotence": "true", "max.in.flight": "5"}, "true", "5"),
])  # fmt: skip
def test_without_exactly_once_the_users_word_beats_our_default(
    conf: dict[str, Any], idempotent: str, in_flight: str | None
) -> None:
    """Guards against a low-latency example that does not start, and a retry that swaps two versions of a row."""
    properties = build(conf).properties
    assert properties["enable.idempotence"] == idempotent
    assert properties.get("max.in.flight.requests.per.connection") == in_flight


def test_what_costs_safety_is_said_in_a_warning() -> None:
    """Guards against a choice whose price the user learns from lost rows."""
    assert build({}).warnings == ()
    assert len(build({"acks": "1"}).warnings) == 2
    assert "swap" in build({"acks": "1", "max.in.flight": 3}).warnings[2]
    assert "any server" in build({**SCRAM, "enable.ssl.certificate.verification": "false"}).warnings[0]
    assert "broker's name" in build({**SCRAM, "ssl.endpoint.identification.algorithm": "none"}).warnings[0]


def test_deltaforge_settles_what_nobody_wrote() -> None:
    """Guards against topics created by a typing error, and against a queue without bounds."""
    properties = build({}, brokers="a:1,b:2").properties
    assert properties["metadata.broker.list"] == "a:1,b:2"
    assert properties["allow.auto.create.topics"] == "false"
    assert properties["delivery.report.only.error"] is True
    assert properties["request.required.acks"] == "all"
    assert int(str(properties["queue.buffering.max.kbytes"])) == 65536
    assert properties["socket.nagle.disable"] == "true"
    assert build({"socket.nagle.disable": "false"}).properties["socket.nagle.disable"] == "false"
    assert "partitioner" not in build({"partitioner": "murmur2_random"}).properties


@pytest.mark.parametrize(
    ("brokers", "region"),
    [
        ("b-1.demo.abc123.c2.kafka.eu-central-1.amazonaws.com:9098", "eu-central-1"),
        ("boot-x.c1.kafka-serverless.us-gov-west-1.amazonaws.com:9098", "us-gov-west-1"),
        ("b-1.demo.abc.kafka.cn-north-1.amazonaws.com.cn:9098", "cn-north-1"),
        ("kafka.internal:9098", "eu-west-1"),
    ],
)
def test_msk_becomes_oauthbearer_with_the_region_of_the_brokers(brokers: str, region: str) -> None:
    """Guards against the seed document's MSK fragment, which librdkafka refuses three times over."""
    built = build(MSK, brokers=brokers)
    assert built.oauth == MskIam(region)
    assert built.properties["sasl.mechanisms"] == "OAUTHBEARER"
    assert not {"sasl.jaas.config", "sasl.client.callback.handler.class"} & built.properties.keys()
    assert (
        build({"security.protocol": "SASL_SSL", "sasl.mechanism": "AWS_MSK_IAM"}, brokers=brokers).oauth == built.oauth
    )


def test_msk_settings_that_cannot_be_followed_are_refused() -> None:
    """Guards against a login module's options that are silently ignored."""
    assert "region is not known" in check_client_conf(sink(MSK), {})[0].message
    assert "does not hold a region" in check_client_conf(sink(MSK), {"AWS_REGION": "http://x"})[0].message
    assert check_client_conf(sink(MSK), {"AWS_DEFAULT_REGION": "eu-west-1"}) == []
    options = JAAS.replace("required", 'required awsProfileName="x"')
    assert "without options" in complaints({**MSK, "sasl.jaas.config": options})[0]
    assert "CallbackHandler" in complaints({**MSK, "sasl.client.callback.handler.class": "x.Y"})[0]
    assert "no meaning" in complaints({**MSK, "sasl.username": "u"})[0]
    assert (
        "several AWS regions"
        in complaints(MSK, brokers="b.kafka.eu-west-1.amazonaws.com:1,b.kafka.eu-west-2.amazonaws.com:1")[0]
    )
    assert all("Java" in line for line in complaints({**SCRAM, "sasl.jaas.config": JAAS}))


@pytest.mark.parametrize(
    "name",
    ["sasl.kerberos.kinit.cmd", "plugin.library.paths", "ssl.engine.location", "ssl.engine.id", "ssl.providers"],
)
def test_settings_that_run_programs_or_load_libraries_are_refused(name: str) -> None:
    """Guards against a configuration file that is a program."""
    (found,) = complaints({name: "/tmp/x"})
    assert found == f"client_conf.{name}: '{name}' is refused: it runs a program or loads a library"


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("bootstrap.servers", "x:1", "`brokers`"),
        ("metadata.broker.list", "x:1", "`brokers`"),
        ("transactional.id", "x", "`exactly_once`"),
        ("allow.auto.create.topics", "true", "`create_topics`"),
        ("delivery.report.only.error", "false", "deltaforge sets it"),
        ("max.request.size", "1", "message.max.bytes"),
        ("key.serializer", "x", "`encoding`"),
        ("ssl.truststore.location", "x", "ssl.ca.location"),
        ("lingr.ms", "1", "'linger.ms'"),
        ("sasl.pasword", "1", "'sasl.password'"),
    ],
)
def test_a_setting_that_does_not_belong_here_is_refused_with_the_right_one(name: str, value: str, field: str) -> None:
    """Guards against an unknown setting without advice."""
    (finding,) = check_client_conf(sink({name: value}), {})
    assert finding.where == f"client_conf.{name}"
    assert field in finding.hint


@pytest.mark.parametrize("name", sorted({*CONSUMER_ONLY, *HOOKS}))
def test_consumer_settings_and_hooks_are_refused(name: str) -> None:
    """Guards against `enable.auto.commit` in a sink that commits by itself."""
    assert len(check_client_conf(sink({name: "true"}), {})) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("linger.ms", "5ms"),
        ("linger.ms", "0x10"),
        ("linger.ms", -1),
        ("linger.ms", 900_001),
        ("linger.ms", True),
        ("batch.size", "1.5"),
        ("batch.size", 0),
        ("socket.timeout.ms", "300001"),
        ("acks", "0"),
        ("acks", "2"),
        ("acks", "leader"),
        ("compression.type", "lz5"),
        ("compression.type", ""),
        ("security.protocol", "SASL"),
        ("enable.idempotence", "yes"),
        ("socket.keepalive.enable", "2"),
        ("debug", "broker,canary"),
        ("partitioner", "consistent"),
        ("client.id", ""),
        ("reconnect.backoff.ms", 20_000),
        ("reconnect.backoff.max.ms", 99),
        ("sasl.mechanism", "GSSAPI"),
        ("sasl.mechanism", "PLAIN"),
    ],
)
def test_a_value_librdkafka_would_refuse_or_misread_is_a_problem(name: str, value: object) -> None:
    """Guards against a start that fails, or `5ms` read as 5."""
    found = complaints({name: value})
    assert len(found) == 1, found
    assert found[0].startswith(f"client_conf.{name}: ")
    assert "canary" not in found[0]


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"security.protocol": "SASL_SSL"}, "needs sasl.mechanism"),
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "u"}, "needs sasl.password"),
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"}, "source of tokens"),
        ({"linger.ms": 1, "queue.buffering.max.ms": 2}, "under another name"),
        ({"enable.idempotence": "false", "enable.gapless.guarantee": "true"}, "needs idempotence"),
    ],
)
def test_a_half_written_setting_is_a_problem(conf: dict[str, Any], message: str) -> None:
    """Guards against librdkafka's refusal at the start."""
    (found,) = complaints(conf)
    assert message in found


@pytest.mark.parametrize("name", sorted({*PROPERTIES, *ALIASES}))
def test_librdkafka_knows_every_name_of_the_table(name: str) -> None:
    """Guards against a table made for another librdkafka."""
    known = PROPERTIES[ALIASES.get(name, name)]
    words = known.words or ("x",)
    value: str | int | bool = {"int": known.high, "float": known.high, "bool": True}.get(known.kind, words[0])
    # Settings that need others, or a file, are known nevertheless.
    refusal = ""
    try:
        Producer({"bootstrap.servers": "127.0.0.1:1", "log_level": "0", name: value})
    except KafkaException as error:
        refusal = str(error)
    assert "No such configuration property" not in refusal


def test_a_secret_shows_in_reveal_only() -> None:
    """Guards against a password in the repr of a frame or in an error."""
    built = build(SCRAM)
    assert "canary-pw" not in repr(built)
    assert built.reveal()["sasl.password"] == "canary-pw"
    with pytest.raises(ConfigError) as caught:
        build({**SCRAM, "acks": "canary-pw", "security.protocol": "canary-pw", "canary-pw": "canary-pw"})
    assert "'canary-pw'" in str(caught.value)  # the key, which looks like one
    assert str(caught.value).replace("client_conf.canary-pw", "").replace("'canary-pw'", "").count("canary-pw") == 0


def test_other_clients_get_the_connection_and_nothing_of_the_producer() -> None:
    """Guards against a consumer that warns about producer settings, or an admin client without TLS."""
    connection = build({**SEED_MAIN, "max.in.flight": 3}, exactly_once=True).reveal_connection()
    assert connection["sasl.password"] == "canary-pw"
    assert connection["metadata.broker.list"] == "127.0.0.1:1"
    producers = {name for name, known in PROPERTIES.items() if known.producer_only}
    assert not producers & connection.keys()
    assert not {"transactional.id", "max.in.flight.requests.per.connection"} & connection.keys()


# Files, credentials and noise apart: those have their own cases above.
NAMES = sorted(
    name
    for name in {*PROPERTIES, *ALIASES}
    if not name.startswith(("ssl.", "sasl.", "https.", "security.", "enable.ssl", "enable.sasl", "debug"))
)


ROUND = [0, 1, 5, 100, 1000, 60_000, 300_000, 900_000, 1_000_000]


@st.composite
def settings_in_range(draw: st.DrawFn) -> dict[str, str]:
    """Settings that are right one by one, so that what is left are the rules between them."""
    conf: dict[str, str] = {}
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=6, unique=True)):
        known = PROPERTIES[ALIASES.get(name, name)]
        if known.kind in ("int", "float"):
            numbers = [known.low, known.high, *(value for value in ROUND if known.low <= value <= known.high)]
            conf[name] = str(draw(st.sampled_from(numbers)))
        else:
            conf[name] = draw(st.sampled_from(known.words or ("true", "false", "all", "1")))
    return conf


@given(settings_in_range(), st.booleans())
@example({"delivery.timeout.ms": "true"}, False)
@example({"queue.buffering.backpressure.threshold": "5"}, False)
@example({"queue.buffering.backpressure.threshold": "5"}, True)
def test_librdkafka_accepts_what_we_accept(conf: dict[str, str], exactly_once: bool) -> None:
    """Guards against a rule between settings that we do not know."""
    if check_client_conf(sink(conf, exactly_once=exactly_once), {}):
        return
    accepted(build(conf, exactly_once=exactly_once).reveal(), {})
