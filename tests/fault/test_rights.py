"""Rights on the broker: what the documentation asks for is enough, and what is taken away under way is waited for."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # no __all__
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from deltaforge.embedded.kafka import KafkaCluster
from deltaforge.embedded.kafka_conf import Listener
from tests.fault.sizes import FULL
from tests.ledger.workload import make_tables
from tests.support.databases import create_database, drop_database
from tests.support.instances import Pipeline, Site, about, alive, states, wait_told
from tests.support.kafka_clients import SCRAM_PASSWORD, SCRAM_USER
from tests.support.kafka_topics import ADMIN_S, topic_names
from tests.support.orders import insert_orders, seen_orders, wait_for_orders, wait_until
from tests.support.outage import busiest_second

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deltaforge.embedded.postgres import PostgresServer
    from tests.support.fix_tls import Certificates
    from tests.support.process import Deltaforge

pytestmark = [pytest.mark.slow]

PRINCIPAL = f"User:{SCRAM_USER}"
LINES_A_SECOND = 20
ACCESS_CONTROL = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
}
TOPIC, TRANSACTION = ResourceType.TOPIC, ResourceType.TRANSACTIONAL_ID


@dataclass(frozen=True)
class Right:
    """One operation on the pipeline's data topic, its checkpoint topic, or its transactional id."""

    on: str
    operation: str

    def binding(self, pipeline: Pipeline, permission: AclPermissionType) -> AclBinding:
        """For exactly this pipeline."""
        checkpoints = pipeline.checkpoints
        kind, name = {
            "data": (TOPIC, pipeline.topic),
            "checkpoints": (TOPIC, checkpoints),
            "transactions": (TRANSACTION, checkpoints.removeprefix("_")),
        }[self.on]
        operation = getattr(AclOperation, self.operation)
        return AclBinding(kind, name, ResourcePatternType.LITERAL, PRINCIPAL, "*", operation, permission)


# What docs/sinks/kafka.md asks for, under "Rights".
DOCUMENTED = [
    *(Right("data", operation) for operation in ("WRITE", "DESCRIBE")),
    *(Right("checkpoints", operation) for operation in ("READ", "WRITE", "DESCRIBE", "DESCRIBE_CONFIGS", "CREATE")),
    *(Right("transactions", operation) for operation in ("WRITE", "DESCRIBE")),
]
RIGHTS = {
    # name of the pipeline: the right that is taken away from it, and the error that must be named
    "data-write": (Right("data", "WRITE"), "TOPIC_AUTHORIZATION_FAILED"),
    "data-describe": (Right("data", "DESCRIBE"), "TOPIC_AUTHORIZATION_FAILED"),
    "transactions-write": (Right("transactions", "WRITE"), "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"),
    "transactions-describe": (Right("transactions", "DESCRIBE"), "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"),
    "checkpoints-write": (Right("checkpoints", "WRITE"), "TOPIC_AUTHORIZATION_FAILED"),
    "checkpoints-read": (Right("checkpoints", "READ"), "TOPIC_AUTHORIZATION_FAILED"),
    "checkpoints-describe": (Right("checkpoints", "DESCRIBE"), "TOPIC_AUTHORIZATION_FAILED"),
}
TAKEN = RIGHTS if FULL else {name: RIGHTS[name] for name in ("data-write", "transactions-write", "checkpoints-read")}
NEW = Right("checkpoints", "CREATE")


class Broker:
    """Who may do what."""

    def __init__(self, bootstrap: str) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap})

    def add(self, *bindings: AclBinding) -> None:
        """Have these hold from now on."""
        for answer in self._admin.create_acls(list(bindings)).values():
            answer.result(ADMIN_S)

    def remove(self, *bindings: AclBinding) -> None:
        """Have these hold no longer."""
        filters = [
            AclBindingFilter(
                each.restype,
                each.name,
                each.resource_pattern_type,
                each.principal,
                each.host,
                each.operation,
                each.permission_type,
            )
            for each in bindings
        ]
        for answer in self._admin.delete_acls(filters).values():
            assert answer.result(ADMIN_S)

    @contextmanager
    def denied(self, *bindings: AclBinding) -> Iterator[None]:
        """These rights are taken away inside."""
        self.add(*bindings)
        yield
        self.remove(*bindings)


@pytest.fixture
def site(
    kafka_jars: None,
    postgres: PostgresServer,
    certificates: Certificates,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """A broker with access control, and one database with the tables."""
    database = create_database(postgres)
    make_tables(database.dsn())
    users = {SCRAM_USER: SCRAM_PASSWORD}
    with (
        KafkaCluster(
            1, listeners=[Listener.SASL], tls=certificates.server, scram_users=users, options=ACCESS_CONTROL
        ) as cluster,
        Site(cluster, database, tmp_path_factory.mktemp("rights"), f"a{database.name[-8:]}") as made,
    ):
        yield made
    drop_database(database)


def _pipeline(site: Site, broker: Broker, name: str, certificates: Certificates) -> Pipeline:
    """With the documented rights and no others."""
    login = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": SCRAM_USER,
        "sasl.password": "${KAFKA_PASSWORD}",
        "ssl.ca.location": str(certificates.ca),
    }
    made = site.pipeline(name, client_conf=login)
    broker.add(*(right.binding(made, AclPermissionType.ALLOW) for right in DOCUMENTED))
    return made


def _wait_told(product: Deltaforge, pipeline: Pipeline, error: str) -> None:
    wait_told(product, pipeline.name, "blocked", f"({error})", "grant the missing right")


@pytest.mark.fault("K14")
def test_a_right_that_is_taken_away_is_named_and_waited_for(site: Site, certificates: Certificates) -> None:
    """Guards against a topic that may not be seen taken for one that is gone, and a loop that asks without a rest."""
    # GIVEN pipelines with the documented rights; one may not make its checkpoint topic yet
    broker = Broker(site.bootstrap)
    made = {name: _pipeline(site, broker, name, certificates) for name in (*TAKEN, "neighbour", "new")}
    old = [made[name] for name in (*TAKEN, "neighbour")]
    sasl = site.kafka.bootstrap(Listener.SASL)
    product = site.process(
        site.directory / "all", name="rights", extra={"KAFKA_BROKERS": sasl, "KAFKA_PASSWORD": SCRAM_PASSWORD}
    )
    with broker.denied(NEW.binding(made["new"], AclPermissionType.DENY)):
        product.start()
        _wait_told(product, made["new"], "TOPIC_AUTHORIZATION_FAILED")
        for pipeline in old:
            running = f"{pipeline.name} runs"
            wait_until(lambda at=pipeline.name: states(product)[at] == "running", running, lambda: alive(product))  # type: ignore[misc]
    insert_orders(site.database, [1])
    for pipeline in old:
        wait_for_orders(site.bootstrap, pipeline.topic, [1], lambda: alive(product))
    confirmed = {}
    # WHEN each of the others loses a right, and every stream has to begin anew
    with broker.denied(*(right.binding(made[name], AclPermissionType.DENY) for name, (right, _) in TAKEN.items())):
        insert_orders(site.database, [2])
        site.database.execute(
            "select pg_terminate_backend(active_pid) from pg_replication_slots where database = current_database()"
        )
        # THEN each names what is missing, and the neighbour works
        for name, (_, error) in TAKEN.items():
            _wait_told(product, made[name], error)
            confirmed[name] = site.confirmed(made[name])
        wait_for_orders(site.bootstrap, made["neighbour"].topic, [2], lambda: alive(product))
        insert_orders(site.database, [3])
        wait_for_orders(site.bootstrap, made["neighbour"].topic, [3], lambda: alive(product))
        assert {name: site.confirmed(made[name]) for name in TAKEN} == confirmed
        for name, (_, error) in TAKEN.items():
            _wait_told(product, made[name], error)
    # AND all go on by themselves once the rights are back
    for pipeline in old:
        wait_for_orders(site.bootstrap, pipeline.topic, [1, 2, 3], lambda: alive(product))
        assert seen_orders(site.bootstrap, pipeline.topic) == [1, 2, 3]
    wait_until(lambda: states(product)[made["new"].name] == "running", "the new one runs", lambda: alive(product))
    assert made["new"].checkpoints in topic_names(site.bootstrap)
    for name in TAKEN:
        assert busiest_second(about(product, made[name])) <= LINES_A_SECOND
    assert product.term() == 0, product.tail()
