"""PostgreSQL addresses: libpq's forms, our keywords, and no error that quotes the input."""

from __future__ import annotations

import contextlib
import traceback
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deltaforge.config.dsn import DsnError, parse_dsn


@pytest.mark.parametrize(
    ("text", "keywords"),
    [
        (
            "postgres://user:password@localhost:5432/orders",
            {"host": "localhost", "port": "5432", "dbname": "orders", "user": "user", "password": "password"},
        ),
        (
            "postgresql://u:p%40%3A%2F%3F%25@h/d%20b?sslmode=verify-full&sslrootcert=/ca.pem",
            {
                "host": "h",
                "dbname": "d b",
                "user": "u",
                "password": "p@:/?%",
                "sslmode": "verify-full",
                "sslrootcert": "/ca.pem",
            },
        ),
        ("postgres://h1:1,h2:2/d", {"host": "h1,h2", "port": "1,2", "dbname": "d"}),
        ("postgres://[::1]:5433/d", {"host": "::1", "port": "5433", "dbname": "d"}),
        ("postgres://%2Fvar%2Frun/d", {"host": "/var/run", "dbname": "d"}),
        ("postgres:///d?host=h&user=u", {"host": "h", "dbname": "d", "user": "u"}),
        (
            "postgres://u:a:b@h/d?ssl=true",
            {"host": "h", "dbname": "d", "user": "u", "password": "a:b", "sslmode": "require"},
        ),
        ("host=h dbname=d", {"host": "h", "dbname": "d"}),
        (
            r" host = h  dbname='a b'  password='it\'s \\' port=5 ",
            {"host": "h", "dbname": "a b", "password": "it's \\", "port": "5"},
        ),
    ],
)
def test_both_forms_are_read_as_libpq_reads_them(text: str, keywords: dict[str, str]) -> None:
    """Guards against connecting elsewhere than psql would."""
    assert parse_dsn(text).conninfo_keywords(reveal=True) == keywords


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("postgresql+asyncpg://u:canary@h/d", "SQLAlchemy"),
        ("postgresql:/u:canary@h/d", "starts neither"),
        ("mysql://u:canary@h/d", "starts neither"),
        ("canary", "starts neither"),
        ("postgres://u:can%zzary@h/d", "hexadecimal"),
        ("postgres://u:can%ffary@h/d", "UTF-8"),
        ("postgres://u:can%00ary@h/d", "control"),
        ("postgres://u:can\nary@h/d", "control"),
        ("postgres://u:can@ary@h/d", "'@' too many"),
        ("postgres://u:can/ary@h/d", "too many"),
        ("postgres://u:can?ary@h/d", "too many"),
        ("postgres://u:can#ary@h:x/d", "port"),
        ("postgres://u:canary@h", "no dbname"),
        ("postgres://u:canary@/d", "no host"),
        ("postgres://u:canary@h:0/d", "port"),
        ("postgres://u:canary@h:65536/d", "port"),
        ("postgres://u:canary@h1,/d", "empty"),
        ("postgres://u:canary@h1,h2,h3/d?port=1,2", "another number"),
        ("postgres://u:canary@[::1/d", "port has to be"),
        ("postgres://u:canary@h/d?canary", "keyword=value"),
        ("postgres://u:canary@h/d?password=canary", "twice"),
        ("postgres://u:canary@h/d?sslmod=require", "did you mean 'sslmode'?"),
        ("postgres://u:canary@h/d?sslmode=canary", "one of allow"),
        ("postgres://u:canary@h/d?connect_timeout=canary", "number from 0"),
        ("host=h dbname=d password='canary", "not closed"),
        ("host=h dbname=d canary", "not a row"),
        ("host=h dbname=d host=i", "host is given twice"),
        ("postgres://u:canary@h/d?service=x", "service is refused"),
        ("postgres://u:canary@h/d?passfile=x", "passfile is refused"),
        ("postgres://u:canary@h/d?options=-c%20x", "options is refused"),
        ("postgres://u:canary@h/d?hostaddr=1.2.3.4", "hostaddr is refused"),
        ("postgres://u:canary@h/d?replication=database", "replication is refused"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_quoting_it(text: str, reason: str) -> None:
    """Guards against libpq's habit of putting the password into the message."""
    with pytest.raises(DsnError, match=reason.replace("?", r"\?")) as caught:
        parse_dsn(text)
    shown = "".join(traceback.format_exception_only(caught.value))
    assert "canary" not in shown
    # Nor in the error it came from, which a traceback would print too.
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_an_address_prints_without_its_password() -> None:
    """Guards against a password in `repr` of the pipeline."""
    dsn = parse_dsn("postgres://u:canary@h:1/d?sslpassword=canary&sslkey=/k")
    assert repr(dsn) == str(dsn) == f"{dsn}" == "u@h:1/d"
    assert dsn.conninfo_keywords()["password"] == "***"
    assert dsn.conninfo_keywords()["sslpassword"] == "***"
    assert dsn.conninfo_keywords(reveal=True)["sslpassword"] == "canary"
    assert (dsn.host, dsn.port, dsn.dbname, dsn.user) == ("h", "1", "d", "u")


def test_addresses_compare_by_everything_they_say() -> None:
    """Guards against two pipelines taken for one because they print alike."""
    one, other = parse_dsn("postgres://u:a@h/d"), parse_dsn("postgres://u:b@h/d")
    assert one == parse_dsn("postgres://u:a@h/d")
    assert one != other
    assert len({one, other}) == 2


CANARY = "Zq7canaryX9"
pieces = st.text(alphabet="@:/?#%&='\\ []+,;!$é\x00\n0a", max_size=4)


@st.composite
def bad_passwords(draw: st.DrawFn) -> str:
    return draw(pieces) + CANARY + draw(pieces)


@given(
    st.sampled_from(["postgres://u:{}@h:5432/d", "postgresql:/u:{}@h/d", "postgresql+x://u:{}@h", "host=h password={}"])
    | st.builds("{}{{}}{}".format, st.text(alphabet="postgresql:/@h=?", max_size=15), st.text(max_size=8)),
    bad_passwords(),
)
@example("postgres://u:{}@h/d", f"1?{CANARY}=x")
@example("postgres://u:{}@h/d", f"1/{CANARY}")
@example("postgres://u:{}@h/d", f"x@{CANARY}")
@example("postgres://u:{}@h/d", f"x,{CANARY}:1")
def test_no_password_reaches_an_error_or_a_repr(template: str, password: str) -> None:
    """Guards against every way in which a password with special characters moves into another field."""
    text = template.replace("{}", password)
    try:
        dsn = parse_dsn(text)
    except DsnError as error:
        shown = "".join(traceback.format_exception(error))
    else:
        password_found = CANARY in dsn.conninfo_keywords(reveal=True).get("password", "")
        shown = repr(dsn) if password_found else ""
    assert CANARY not in shown


@given(
    st.text(alphabet=st.characters(min_codepoint=32, exclude_characters="\x7f", codec="utf-8"), min_size=1, max_size=30)
)
def test_a_password_percent_encoded_comes_back_as_it_was(password: str) -> None:
    """Guards against a password with special characters that does not log in."""
    dsn = parse_dsn(f"postgres://u:{quote(password, safe='')}@h/d")
    assert dsn.password is not None
    assert dsn.password.reveal() == password


@given(st.text(min_size=1, max_size=60))
def test_any_text_is_an_address_or_a_dsn_error(text: str) -> None:
    """Guards against a crash where a problem with a line number belongs."""
    with contextlib.suppress(DsnError):
        parse_dsn(text)
