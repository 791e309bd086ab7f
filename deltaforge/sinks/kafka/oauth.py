"""OAUTHBEARER tokens: where they come from when a broker wants one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltaforge.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from deltaforge.sinks.kafka.client_conf import MskIam


def token_source(msk: MskIam | None) -> Callable[[str], tuple[str, float]] | None:
    """librdkafka's oauth_cb for AWS MSK: token and its end, in seconds since 1970. None when no token is wanted.

    Raises:
      ConfigError: the signer is not installed.
    """
    if msk is None:
        return None
    try:
        from aws_msk_iam_sasl_signer import MSKAuthTokenProvider  # type: ignore[import-not-found]
    except ImportError:
        raise ConfigError(
            "AWS MSK IAM needs the package aws-msk-iam-sasl-signer-python",
            hint='pip install "deltaforge[msk]"',
        ) from None
    region = msk.region

    def refresh(_: str) -> tuple[str, float]:
        token, expires_ms = MSKAuthTokenProvider.generate_auth_token(region)
        return token, expires_ms / 1000

    return refresh
