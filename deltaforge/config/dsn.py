"""A PostgreSQL address, read by us: libpq's own parser puts the password into some of its error texts.

Both of libpq's forms are understood, `postgres://user:password@host:5432/database?sslmode=verify-full` and
`host=... dbname=...`. Keywords are allow-listed: `service`, `passfile` and `options` reach outside the pipeline file.
No error text of this module quotes any part of the input.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from deltaforge.config.problems import nearest
from deltaforge.config.secret import MASK, Secret, register

if TYPE_CHECKING:
    from collections.abc import Mapping

_SCHEMES = ("postgresql://", "postgres://")
_SECRET_KEYWORDS = ("password", "sslpassword")
_NUMBERS: Final[Mapping[str, tuple[int, int]]] = {
    "connect_timeout": (0, 3600),
    "keepalives": (0, 1),
    "keepalives_idle": (0, 86_400),
    "keepalives_interval": (0, 86_400),
    "keepalives_count": (0, 1000),
    "tcp_user_timeout": (0, 86_400_000),
    "sslsni": (0, 1),
}
_TLS_VERSIONS = frozenset({"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"})
_WORDS: Final[Mapping[str, frozenset[str]]] = {
    "sslmode": frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}),
    "sslnegotiation": frozenset({"postgres", "direct"}),
    "sslcertmode": frozenset({"disable", "allow", "require"}),
    "channel_binding": frozenset({"disable", "prefer", "require"}),
    "gssencmode": frozenset({"disable", "prefer", "require"}),
    "gssdelegation": frozenset({"0", "1"}),
    "target_session_attrs": frozenset({"any", "read-write", "read-only", "primary", "standby", "prefer-standby"}),
    "load_balance_hosts": frozenset({"disable", "random"}),
    "ssl_min_protocol_version": _TLS_VERSIONS,
    "ssl_max_protocol_version": _TLS_VERSIONS,
}
_TEXTS = """
host port dbname user password sslrootcert sslcert sslkey sslpassword sslcrl sslcrldir
application_name require_auth requirepeer krbsrvname
"""
ALLOWED: Final = frozenset({*_TEXTS.split(), *_NUMBERS, *_WORDS})
REFUSED: Final[Mapping[str, str]] = {
    "service": "it reads another file; write its settings here",
    "servicefile": "it reads another file; write its settings here",
    "passfile": "it reads another file; give the password through an environment variable",
    "options": "deltaforge sets the session's settings itself",
    "hostaddr": "it gets round the host name check; use host",
    "replication": "deltaforge sets it itself",
    "client_encoding": "deltaforge sets it itself",
    "fallback_application_name": "use application_name",
    "sslkeylogfile": "it writes the connection's keys to a file",
    "gsslib": "it chooses a library to load",
    "oauth_issuer": "it asks an address for tokens; use a password or a client certificate",
    "oauth_client_id": "it asks an address for tokens; use a password or a client certificate",
    "oauth_client_secret": "it asks an address for tokens; use a password or a client certificate",
    "oauth_scope": "it asks an address for tokens; use a password or a client certificate",
    "scram_client_key": "use password",
    "scram_server_key": "use password",
    "sslcompression": "it is unsafe and no longer supported by PostgreSQL",
    "requiressl": "use sslmode",
    "authtype": "use require_auth",
}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_.\-]+|/[A-Za-z0-9_./\-]+)\Z")
_BARE_IPV6 = re.compile(r"[0-9A-Fa-f:.%]+\Z")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_KEYWORD = re.compile(r"\s*([A-Za-z_]+)\s*=\s*")


class DsnError(ValueError):
    """The address cannot be used. The text says why and may be shown: it quotes keyword names of libpq only."""


class Dsn:
    """Where PostgreSQL is and how to connect. Prints as user@host:port/dbname."""

    __slots__ = ("_plain", "_secrets")

    def __init__(self, keywords: Mapping[str, str]) -> None:
        """Raises DsnError when a keyword is unknown, refused, missing or has a value libpq would not take."""
        for name, value in keywords.items():
            _check_keyword(name, value)
        _check_hosts(keywords)
        for needed in ("host", "dbname"):
            if not keywords.get(needed):
                raise DsnError(f"no {needed} in it; libpq would guess one")
        self._plain = MappingProxyType({k: v for k, v in keywords.items() if k not in _SECRET_KEYWORDS})
        self._secrets = MappingProxyType({k: Secret(v) for k, v in keywords.items() if k in _SECRET_KEYWORDS})

    @property
    def host(self) -> str:
        """Host name, or several with commas."""
        return self._plain["host"]

    @property
    def port(self) -> str:
        """Port, or several with commas."""
        return self._plain.get("port") or "5432"

    @property
    def dbname(self) -> str:
        """Database to connect to."""
        return self._plain["dbname"]

    @property
    def user(self) -> str:
        """Role to connect as; '' leaves it to libpq."""
        return self._plain.get("user", "")

    @property
    def password(self) -> Secret | None:
        """The password, if the address has one."""
        return self._secrets.get("password")

    def conninfo_keywords(self, *, reveal: bool = False) -> dict[str, str]:
        """libpq keywords. Without `reveal` passwords read `***`; with it, hand the result to libpq and nobody else."""
        secrets = {name: secret.reveal() if reveal else MASK for name, secret in self._secrets.items()}
        return {**self._plain, **secrets}

    def __repr__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        return f"{user}{self.host}:{self.port}/{self.dbname}"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dsn) and self._plain == other._plain and self._secrets == other._secrets

    def __hash__(self) -> int:
        return hash(repr(self))


def parse_dsn(text: str) -> Dsn:
    """Read a URI or keyword form.

    Raises:
      DsnError: with a reason that quotes nothing of `text`.
    """
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise DsnError("it has a line break or another control character in it")
    for scheme in _SCHEMES:
        if text.startswith(scheme):
            return Dsn(_from_uri(text[len(scheme) :]))
    if re.match(r"\s*[A-Za-z_]+\s*=", text):
        return Dsn(_from_keywords(text))
    if re.match(r"postgres(ql)?\+\w+:", text):
        raise DsnError("a driver in the scheme (as in postgresql+driver://) is SQLAlchemy's; write postgresql://")
    raise DsnError("it starts neither with postgresql:// or postgres:// nor with keyword=value")


def _from_uri(rest: str) -> dict[str, str]:
    keywords: dict[str, str] = {}
    address, _, query = rest.partition("?")
    authority, slash, database = address.partition("/")
    userinfo, at, hosts = authority.rpartition("@")
    if "@" in userinfo or "@" in database or "@" in query:
        raise DsnError("it has an '@' too many; write '@', ':', '/', '?', '%' in a password as %40, %3A, %2F, %3F, %25")
    if at:
        user, colon, password = userinfo.partition(":")
        keywords |= {"user": _unquote(user)} if user else {}
        if colon:
            register(password)
            keywords["password"] = _unquote(password)
    if "/" in database:
        raise DsnError("it has a '/' too many; write '/' in user, password or database as %2F")
    if slash and database:
        keywords["dbname"] = _unquote(database)
    _add_hosts(keywords, hosts)
    for pair in query.split("&") if query else ():
        _add_parameter(keywords, pair)
    return keywords


def _add_hosts(keywords: dict[str, str], hosts: str) -> None:
    names: list[str] = []
    ports: list[str] = []
    for item in hosts.split(",") if hosts else ():
        match = re.match(r"(\[[^\]]*\]|[^:]*)(?::(.*))?\Z", item)
        if match is None:
            raise DsnError("the host is malformed; write ':' and '@' in user or password as %3A and %40")
        name = _unquote(match[1])
        names.append(name[1:-1] if name.startswith("[") else name)
        ports.append(match[2] or "")
    if names:
        keywords["host"] = ",".join(names)
    if any(ports):
        keywords["port"] = ",".join(ports)


def _add_parameter(keywords: dict[str, str], pair: str) -> None:
    name, equals, value = pair.partition("=")
    if not equals or "=" in value:
        raise DsnError("what follows '?' has to be keyword=value, several with '&'")
    name, value = _unquote(name), _unquote(value)
    if name == "ssl" and value == "true":
        name, value = "sslmode", "require"
    if name in keywords:
        raise DsnError(f"{name} is given twice" if name in ALLOWED else "a keyword is given twice")
    keywords[name] = value


def _from_keywords(text: str) -> dict[str, str]:
    keywords: dict[str, str] = {}
    at = 0
    while text[at:].strip():
        match = _KEYWORD.match(text, at)
        if match is None:
            raise DsnError("it is not a row of keyword=value; values with spaces need single quotes")
        value, at = _keyword_value(text, match.end())
        if match[1] in keywords:
            raise DsnError(f"{match[1]} is given twice" if match[1] in ALLOWED else "a keyword is given twice")
        keywords[match[1]] = value
    return keywords


def _keyword_value(text: str, at: int) -> tuple[str, int]:
    quoted = text[at : at + 1] == "'"
    at += quoted
    value: list[str] = []
    while at < len(text):
        character = text[at]
        if character == "\\":
            at += 1
            value.append(text[at : at + 1])
        elif character == "'" and quoted:
            return "".join(value), at + 1
        elif character.isspace() and not quoted:
            break
        else:
            value.append(character)
        at += 1
    if quoted:
        raise DsnError("a single quote is not closed")
    return "".join(value), at


def _unquote(text: str) -> str:
    if _ESCAPE.search(text):
        raise DsnError("a '%' is not followed by two hexadecimal digits; write '%' itself as %25")
    try:
        value = unquote(text, errors="strict")
    except UnicodeDecodeError:
        # `from None`: the exception's text would quote the bytes.
        raise DsnError("a percent escape is not UTF-8") from None
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise DsnError("a percent escape stands for a control character")
    return value


def _check_keyword(name: str, value: str) -> None:
    if name in REFUSED:
        raise DsnError(f"keyword {name} is refused: {REFUSED[name]}")
    if name not in ALLOWED:
        # The name is not quoted: after an unescaped '?' in the password it is a part of the password.
        hint = nearest(name, ALLOWED)
        raise DsnError(f"it has an unknown keyword{'; ' + hint if hint else ''}")
    if name in _NUMBERS:
        low, high = _NUMBERS[name]
        if not (value.isascii() and value.isdigit() and len(value) < 10 and low <= int(value) <= high):
            raise DsnError(f"{name} has to be a number from {low} to {high}")
    if name in _WORDS and value not in _WORDS[name]:
        raise DsnError(f"{name} has to be one of {', '.join(sorted(_WORDS[name]))}")
    if name == "sslkey" and ":" in value:
        # To libpq it would be `engine:key`, and OpenSSL loads an engine from any path.
        raise DsnError("sslkey has to be a file, and one without ':' in its name: an engine is code to load")


def _check_hosts(keywords: Mapping[str, str]) -> None:
    hosts = keywords.get("host", "").split(",")
    ports = keywords["port"].split(",") if keywords.get("port") else []
    if any(host and not _HOST.match(host) and not _BARE_IPV6.match(host) for host in hosts):
        raise DsnError("the host is malformed; write '@', ':', '/' in user or password as %40, %3A, %2F")
    if len(hosts) > 1 and not all(hosts):
        raise DsnError("one of the hosts is empty")
    for port in ports:
        if port and not (port.isascii() and port.isdigit() and len(port) < 6 and 1 <= int(port) <= 65535):
            raise DsnError("the port has to be a number from 1 to 65535; is a ':' or '/' in the password not escaped?")
    if len(ports) not in (0, 1, len(hosts)):
        raise DsnError("it has another number of ports than of hosts")
