"""Brokers behind proxies: what they tell their clients is the proxies' addresses.

A client that was given `bootstrap` meets a proxy wherever the cluster sends it: Metadata, FindCoordinator and
DescribeCluster answer with the addresses of the listener that was asked, and this one advertises the proxies' ports.
Tests read and administer through `direct`, which no fault reaches.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Self

from deltaforge.embedded.kafka import KafkaCluster
from deltaforge.embedded.kafka_conf import Listener
from deltaforge.embedded.ports import HOST, free_ports
from tests.proxy.kafka import KafkaProxy, RuleBook, Rules

if TYPE_CHECKING:
    from tests.proxy.frames import Api
    from tests.support.networks import Network


class ProxiedKafka(Rules):
    """A cluster with one proxy before each node. Rules concern all nodes: a coordinator may be any of them."""

    def __init__(
        self,
        nodes: int = 1,
        *,
        listen_host: str = HOST,
        told_host: str = HOST,
        network: Network | None = None,
        **settings: Any,
    ) -> None:
        """Choose ports and bind the proxies'; nothing runs before `start`.

        Args:
          listen_host: where the proxies listen.
          told_host: where clients are told that they listen.
          network: in which the proxies listen.
          settings: those of `KafkaCluster`, but for the listeners.
        """
        super().__init__(RuleBook())
        ports = free_ports(nodes)
        with network.entered() if network else nullcontext():
            self.proxies = [
                KafkaProxy(HOST, 0, listen_host=listen_host, listen_port=port, book=self.book) for port in ports
            ]
        told = [f"{told_host}:{proxy.port}" for proxy in self.proxies]
        self.cluster = KafkaCluster(
            nodes, listeners=[Listener.PROXIED], advertised={Listener.PROXIED: told}, **settings
        )
        for proxy, node in zip(self.proxies, self.cluster.nodes, strict=True):
            proxy.target(HOST, node.ports.listeners[Listener.PROXIED])

    @property
    def bootstrap(self) -> str:
        """For the client under test: the proxies."""
        return self.cluster.bootstrap(Listener.PROXIED)

    @property
    def direct(self) -> str:
        """For the test's own readers: the brokers themselves."""
        return self.cluster.bootstrap()

    def proxy(self, node_id: int = 1) -> KafkaProxy:
        """The one before a node; ids count from 1."""
        return self.proxies[node_id - 1]

    def requests(self, api: Api) -> int:
        """How many such requests came by so far."""
        return sum(proxy.seen[api] for proxy in self.proxies)

    def heal(self) -> None:
        """End all faults and rules of all proxies."""
        for proxy in self.proxies:
            proxy.heal()

    def start(self) -> None:
        """Start the proxies, then the brokers. Raises what `KafkaCluster.start` raises."""
        for proxy in self.proxies:
            proxy.start()
        self.cluster.start()

    def close(self) -> None:
        """End everything."""
        try:
            self.cluster.close()
        finally:
            for proxy in self.proxies:
                proxy.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
