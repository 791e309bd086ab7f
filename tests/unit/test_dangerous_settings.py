"""Settings that run code, load libraries, read or write files, or ask other addresses: what becomes of each, and why.

The tables are held against the libraries that are installed: a new version with a new setting of this kind is red here
until somebody has decided about it.
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka import Producer
from psycopg import pq

from deltaforge.config.dsn import ALLOWED, REFUSED, DsnError, parse_dsn
from deltaforge.config.properties import ClientProperties
from deltaforge.config.schema import KafkaSinkConfig
from deltaforge.config.templates import TopicTemplate
from deltaforge.sinks.kafka.client_conf import check_client_conf
from deltaforge.sinks.kafka.properties import ALIASES, CONSUMER_ONLY, HOOKS, PROPERTIES

OIDC = {
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "OAUTHBEARER",
    "sasl.oauthbearer.method": "oidc",
    "sasl.oauthbearer.client.id": "df",
    "sasl.oauthbearer.client.secret": "not-a-secret",
    "sasl.oauthbearer.token.endpoint.url": "https://id.example/token",
}

CLIENT_REFUSED = {
    "sasl.kerberos.kinit.cmd": "a shell runs it",
    "sasl.kerberos.principal": "goes into that command line",
    "sasl.kerberos.keytab": "goes into that command line",
    "sasl.kerberos.service.name": "goes into that command line",
    "sasl.kerberos.min.time.before.relogin": "how often it runs",
    "plugin.library.paths": "loads libraries",
    "ssl.engine.location": "loads a library",
    "ssl.engine.id": "loads a library",
    "ssl.providers": "loads libraries",
}
CLIENT_ALLOWED = {
    "ssl.ca.location": "read as certificates; they are compared with, never sent",
    "ssl.crl.location": "read as a revocation list; never sent",
    "ssl.certificate.location": "read as certificates; the broker is shown them, which is what they are for",
    "ssl.key.location": "read as a key; never sent",
    "ssl.keystore.location": "read as key and certificates, as the two above",
    "ssl.ca.certificate.stores": "named stores of Windows",
    "https.ca.location": "as ssl.ca.location, for the address of the tokens",
    "sasl.oauthbearer.token.endpoint.url": "asked for tokens: https only, or this machine",
    "sasl.oauthbearer.assertion.file": "sent to that address, which is what it is for",
    "sasl.oauthbearer.assertion.jwt.template.file": "sent to that address, signed",
    "sasl.oauthbearer.assertion.private.key.file": "read as a key; never sent",
    "sasl.oauthbearer.metadata.authentication.type": "asks the cloud that the machine runs in for its token",
}
CLIENT_MENTIONS = {
    "debug": "contexts to log about, plugin among them",
    "builtin.features": "cannot be set",
    "ssl.endpoint.identification.algorithm": "whether the broker's name is checked",
    "sasl.oauthbearer.method": "whether the address of the tokens is used",
    "sasl.oauthbearer.config": "text for tokens; says where its form is described",
    "sasl.oauthbearer.grant.type": "a word",
    "sasl.oauthbearer.assertion.algorithm": "a word",
    "sasl.oauthbearer.assertion.private.key.passphrase": "the passphrase of the file above",
    "https.ca.pem": "the certificates themselves",
}
"""Whose description has one of the words below, and no such thing in it."""
TOUCHING = re.compile(
    r"\b(file|path|director|url|uri|librar|command|execut|script|plugin|engine|provider|keytab|shell|kinit|http|stores?\b)",
    re.IGNORECASE,
)


class Described(NamedTuple):
    """A line of librdkafka's own list of properties."""

    name: str
    scope: str
    text: str


def librdkafka() -> list[Described]:
    """What the librdkafka in this process says about its properties."""
    Producer({"bootstrap.servers": "127.0.0.1:1", "log_level": "0"})
    maps = Path("/proc/self/maps").read_text().splitlines()
    (path,) = {line.split()[-1] for line in maps if "librdkafka" in line and "confluent_kafka/" not in line}
    library, libc = ctypes.CDLL(path), ctypes.CDLL(None)
    buffer, size = ctypes.c_char_p(), ctypes.c_size_t()
    libc.open_memstream.restype = ctypes.c_void_p
    stream = ctypes.c_void_p(libc.open_memstream(ctypes.byref(buffer), ctypes.byref(size)))
    library.rd_kafka_conf_properties_show(stream)
    libc.fclose(stream)
    lines = [line.split("|") for line in (buffer.value or b"").decode().splitlines() if line.count("|") >= 5]
    return [Described(line[0].strip(), line[1].strip(), "|".join(line[5:])) for line in lines]


def refusals(conf: dict[str, str]) -> list[str]:
    """What is said about these settings."""
    topic = TopicTemplate.parse("t")
    sink = KafkaSinkConfig(id="k", brokers="127.0.0.1:1", topic=topic, client_conf=ClientProperties(conf))
    return [finding.message for finding in check_client_conf(sink, {})]


def test_every_property_of_librdkafka_that_reaches_outside_was_decided_about() -> None:
    """Guards against a setting of a newer librdkafka that nobody has looked at."""
    found = librdkafka()
    assert {"linger.ms", "sasl.kerberos.kinit.cmd"} <= {one.name for one in found}
    touching = {one.name for one in found if one.scope != "C" and TOUCHING.search(f"{one.name} {one.text}")}

    decided = CLIENT_REFUSED.keys() | CLIENT_ALLOWED.keys() | CLIENT_MENTIONS.keys()
    assert touching - decided - HOOKS - CONSUMER_ONLY - ALIASES.keys() == set()


def test_every_property_of_a_producer_is_known_or_refused() -> None:
    """Guards against an allow-list made for another librdkafka."""
    for one in librdkafka():
        if one.name not in PROPERTIES and one.name not in ALIASES:
            assert refusals({one.name: "1"}), one.name


@pytest.mark.parametrize("name", CLIENT_REFUSED)
@pytest.mark.parametrize("value", ["/tmp/x", "1", "$(id)", ""])
def test_what_runs_code_is_refused_by_name_whatever_its_value(name: str, value: str) -> None:
    """Guards against a pipeline file that is a program."""
    for conf in ({name: value}, {**OIDC, name: value}):
        (refusal,) = refusals(conf)
        assert refusal.startswith(f"'{name}' is refused: it ")


@pytest.mark.parametrize("name", CLIENT_ALLOWED)
def test_what_is_allowed_is_allowed(name: str) -> None:
    """Guards against a list that says one thing and a check that does another."""
    words = PROPERTIES[name].words
    assert (
        refusals({**OIDC, name: "https://id.example/t" if name.endswith(".url") else words[0] if words else "/x"}) == []
    )


@pytest.mark.parametrize("mechanism", ["GSSAPI", "gssapi", "OAUTHBEARER,GSSAPI", "EXTERNAL", "NTLM"])
def test_no_mechanism_with_a_program_of_its_own_is_allowed(mechanism: str) -> None:
    """Guards against Kerberos, librdkafka's default, which calls kinit by a shell."""
    assert refusals({"security.protocol": "SASL_SSL", "sasl.mechanism": mechanism})
    assert refusals({"security.protocol": "SASL_SSL"})


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://id.example/token", True),
        ("HTTPS://id.example:8443/a?b=c", True),
        ("http://localhost:8080/token", True),
        ("http://127.0.0.1", True),
        ("http://[::1]:80/", True),
        ("http://id.example/token", False),
        ("http://169.254.169.254/latest/meta-data", False),
        ("http://localhost.evil.example/", False),
        ("http://localhost@evil.example/", False),
        ("http://127.0.0.1:80@evil.example/", False),
        ("http://127.0.0.1\\@evil.example/", False),
        ("https://user:password@id.example/", False),
        ("file:///etc/passwd", False),
        ("ftp://id.example/", False),
        ("gopher://id.example/", False),
        ("id.example/token", False),
        ("https://", False),
        (" https://id.example", False),
    ],
)
def test_tokens_are_asked_for_over_tls(url: str, allowed: bool) -> None:
    """Guards against a client's secret in clear text, and a file or another service in the place of tokens."""
    found = refusals({**OIDC, "sasl.oauthbearer.token.endpoint.url": url})
    assert (found == []) is allowed, found


DSN_REFUSED = {
    "service": "another file",
    "servicefile": "another file",
    "passfile": "another file",
    "options": "settings of the session",
    "hostaddr": "an address that no certificate is compared with",
    "gsslib": "loads a library",
    "sslkeylogfile": "writes the keys of the connection",
    "oauth_issuer": "asks another address",
    "oauth_client_id": "asks another address",
    "oauth_client_secret": "asks another address",
    "oauth_scope": "asks another address",
    "scram_client_key": "a password in another form",
    "scram_server_key": "a password in another form",
    "replication": "ours",
    "client_encoding": "ours",
    "fallback_application_name": "without use",
    "sslcompression": "unsafe",
    "requiressl": "an old name",
    "authtype": "an old name",
}
DSN_FILES = {
    "sslcert": "shown to the server, which is what it is for",
    "sslkey": "read as a key; never sent",
    "sslrootcert": "compared with; never sent",
    "sslcrl": "compared with; never sent",
    "sslcrldir": "compared with; never sent",
}


def test_every_keyword_of_libpq_was_decided_about() -> None:
    """Guards against a keyword of a newer libpq that nobody has looked at."""
    assert set(DSN_REFUSED) == set(REFUSED)
    assert set(DSN_FILES) <= ALLOWED
    for option in pq.Conninfo.get_defaults():
        name = option.keyword.decode()
        if name not in ALLOWED:
            with pytest.raises(DsnError, match=r"refused|unknown"):
                parse_dsn(f"host=h dbname=d {name}=1")


@pytest.mark.parametrize("name", DSN_REFUSED)
@pytest.mark.parametrize("form", ["postgresql://h/d?{}=x", "host=h dbname=d {}=x", "host=h dbname=d {} = 'x'"])
def test_keywords_that_reach_outside_are_refused_in_both_forms(name: str, form: str) -> None:
    """Guards against settings from files that nobody sees, and addresses beside the one that is checked."""
    with pytest.raises(DsnError, match=f"keyword {name} is refused"):
        parse_dsn(form.format(name))


@pytest.mark.parametrize("key", ["/tmp/evil.so:x", "pkcs11:key", "dynamic:x", ":", "../x:y", "%2Ftmp%2Fevil.so%3Ax"])
def test_a_key_that_is_an_engine_is_refused(key: str) -> None:
    """Guards against `sslkey=/tmp/evil.so:x`, for which libpq has OpenSSL load that library."""
    with pytest.raises(DsnError, match="an engine is code to load"):
        parse_dsn(f"postgresql://h/d?sslkey={key}")
    if "%" not in key:
        with pytest.raises(DsnError, match="an engine is code to load"):
            parse_dsn(f"host=h dbname=d sslkey='{key}'")


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("/var/run/postgresql", True),
        ("h", True),
        ("[::1]", True),
        ("@abstract", False),
        ("h;id", False),
        ("h\\@x", False),
        ("'/x y'", False),
        ("./relative", False),
        ("h%00", False),
        ("$(id)", False),
    ],
)
def test_a_host_is_a_name_an_address_or_the_directory_of_a_socket(host: str, allowed: bool) -> None:
    """Guards against a host that another program takes for something else."""
    if allowed:
        assert parse_dsn(f"host={host} dbname=d").host == host
    else:
        with pytest.raises(DsnError):
            parse_dsn(f"host={host} dbname=d")
