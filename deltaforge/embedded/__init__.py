"""PostgreSQL and Kafka on this machine, from pip packages alone, for the demo and for the tests.

The servers listen on 127.0.0.1 only and are not meant to keep anything: their data lives in a temporary directory.
`postgres.PostgresServer` and `kafka.KafkaCluster` are synchronous (session fixtures are); `asynchronous.running`
puts either under Trio. Every server hangs on a guard process that ends it when this process is gone, however it went.
"""

from __future__ import annotations
