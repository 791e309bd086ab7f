"""A secret leaves its holder by reveal() only."""

from __future__ import annotations

import copy
import json
import pickle
import traceback

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaforge.config.properties import ClientProperties, names_secret
from deltaforge.config.secret import Secret, redact, secrets_in_use

VALUE = "tr0ub4dor&3/%"


def test_a_secret_does_not_print_in_any_way() -> None:
    """Guards against a password in a log line, an f-string or a traceback."""
    secret = Secret(VALUE)
    shown = [str(secret), repr(secret), f"{secret}", f"{secret!r:>40}", f"{[secret]}", f"{secret!s}", "%s" % secret]  # noqa: UP031
    assert not any(VALUE in text for text in shown)
    try:
        raise ValueError(secret)
    except ValueError:
        assert VALUE not in traceback.format_exc()
    assert secret.reveal() == VALUE


def test_a_secret_is_not_written_by_accident() -> None:
    """Guards against a status answer, a crash dump or a cache with the password in it."""
    secret = Secret(VALUE)
    with pytest.raises(TypeError):
        json.dumps(secret)
    with pytest.raises(TypeError):
        msgspec.json.encode(secret)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        copy.deepcopy(secret)
    assert not hasattr(secret, "__dict__")


def test_secrets_compare_with_secrets_only() -> None:
    """Guards against a comparison with a plain string that is true by chance and leaks by its time."""
    assert Secret(VALUE) == Secret(VALUE)
    assert Secret(VALUE) != Secret("x")
    assert Secret(VALUE) != VALUE
    assert hash(Secret(VALUE)) == hash(Secret(VALUE))
    assert not Secret("")


def test_redact_covers_every_spelling_of_a_secret() -> None:
    """Guards against the percent-encoded password in a URL, or the escaped one in JSON."""
    Secret('pa"ss\\wörd &1')
    for text in ('pa"ss\\wörd &1', json.dumps('pa"ss\\wörd &1'), repr('pa"ss\\wörd &1'), "pa%22ss%5Cw%C3%B6rd%20%261"):
        assert redact(f"before {text} after").count("***") == 1
        assert "rd" not in redact(text)
    assert redact("nothing here") == "nothing here"


def test_redact_covers_the_longer_of_two_secrets_whole() -> None:
    """Guards against `***tail` where one password is the beginning of another."""
    Secret("pw-abc")
    Secret("pw-abc-and-tail")
    assert redact("x pw-abc-and-tail y") == "x *** y"


def test_very_short_values_are_not_searched_for() -> None:
    """Guards against a log in which every `a` is covered."""
    Secret("a")
    assert "a" not in secrets_in_use()
    assert redact("banana") == "banana"


@given(st.text(min_size=8, max_size=40))
def test_no_secret_survives_redact(value: str) -> None:
    """Guards against a spelling the filter does not know."""
    Secret(value)
    assert value not in redact(f"a {value} b")


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("sasl.password", True),
        ("ssl.key.password", True),
        ("ssl.keystore.password", True),
        ("ssl.key.pem", True),
        ("sasl.jaas.config", True),
        ("sasl.oauthbearer.client.secret", True),
        ("sasl.oauthbearer.config", True),
        ("SASL.PASSWORD", True),
        ("sasl.username", False),
        ("sasl.oauthbearer.token.endpoint.url", False),
        ("ssl.key.location", False),
        ("linger.ms", False),
    ],
)
def test_properties_that_hold_secrets_are_known_by_name(name: str, secret: bool) -> None:
    """Guards against a private key in the pipeline's status."""
    assert names_secret(name) is secret
    shown = repr(ClientProperties({name: VALUE}))
    assert (VALUE not in shown) is secret
