"""The `client_conf` of a Kafka sink as a value: an unchangeable mapping whose secret entries do not print."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from deltaforge.config.secret import Secret

PropertyValue: TypeAlias = "str | int | float | bool | Secret"

_SECRET_WORDS = ("password", "secret", "token", "jaas", "credential", "passphrase", "private", "api.key")
_SECRET_ENDS = (".pem", ".pass", ".pwd", "ssl_key", "sasl.oauthbearer.config", "oauthbearer.extensions")
_PLAIN_WORDS = """
algorithm class codec file id level list
location mechanism mechanisms method ms protocol
suites type url username
"""
_PLAIN_LASTS = frozenset(_PLAIN_WORDS.split())
_SHORTEST_DOUBTFUL = 6


class ClientProperties(Mapping[str, PropertyValue]):
    """librdkafka properties as the user wrote them. Secrets are held as Secret; equality is by content."""

    __slots__ = ("_entries", "broken")

    def __init__(self, entries: Mapping[str, PropertyValue] | None = None, broken: Iterable[str] = ()) -> None:
        """Wrap `entries`. Text under a key that names a secret becomes a Secret.

        `broken` are keys that the file has without a usable value: reported already, hence not missing.
        """
        self.broken = frozenset(broken)
        self._entries: dict[str, PropertyValue] = {
            key: Secret(str(value)) if names_secret(key) and not isinstance(value, Secret) else value
            for key, value in (entries or {}).items()
        }

    def __getitem__(self, key: str) -> PropertyValue:
        return self._entries[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __hash__(self) -> int:
        return hash(frozenset(self._entries.items()))

    def __repr__(self) -> str:
        return f"ClientProperties({self._entries!r})"


def names_secret(key: str) -> bool:
    """True when a property of this name holds a password, a token or key material."""
    lowered = key.lower()
    if lowered.endswith(_SECRET_ENDS):
        return True
    return any(word in lowered for word in _SECRET_WORDS) and lowered.rpartition(".")[2] not in _PLAIN_LASTS


def doubtful(key: str, value: str) -> bool:
    """True when `value`, taken from the environment, may be a secret under a misspelt name (`sasl.pasword`).

    Numbers, short words and names whose values stand in every log anyway are left out: covering the user name
    `deltaforge` or the protocol `SASL_SSL` would make the log unreadable.
    """
    last = key.lower().rpartition(".")[2]
    return last not in _PLAIN_LASTS and len(value) >= _SHORTEST_DOUBTFUL and not value.isdigit()
