"""A server and clients on plain sockets, with a proxy between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.proxy.peers import Ends

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.proxy.proxy import Proxy


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A server, and clients."""
    with Ends() as made:
        yield made


@pytest.fixture
def proxy(ends: Ends, make_proxy: Callable[[int], Proxy]) -> Proxy:
    """A proxy before the server."""
    return make_proxy(ends.port)
