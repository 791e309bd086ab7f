"""Every error code that a broker may answer with, at every call about transactions or records, once done and once not.

The answers are made by the proxy, in the broker's name: `done` ones after the broker did what it was asked.
"""

from __future__ import annotations

import faulthandler
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaError

from tests.fault.sizes import FULL
from tests.fault.stages import LoadedStage
from tests.nemesis.stage import Servers
from tests.proxy.frames import Api

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.proxy.frames import Request
    from tests.proxy.rules import Rule

pytestmark = [pytest.mark.slow, pytest.mark.fault("K18")]

_COORDINATOR = "COORDINATOR_NOT_AVAILABLE COORDINATOR_LOAD_IN_PROGRESS NOT_COORDINATOR CONCURRENT_TRANSACTIONS"
_TRANSACTION = (
    f"{_COORDINATOR} INVALID_PRODUCER_EPOCH PRODUCER_FENCED INVALID_TXN_STATE INVALID_PRODUCER_ID_MAPPING "
    "UNKNOWN_PRODUCER_ID TRANSACTIONAL_ID_AUTHORIZATION_FAILED CLUSTER_AUTHORIZATION_FAILED REQUEST_TIMED_OUT "
    "TRANSACTION_ABORTABLE UNKNOWN"
)
CODES = {
    Api.EndTxn: _TRANSACTION,
    Api.AddPartitionsToTxn: f"{_TRANSACTION} UNKNOWN_TOPIC_OR_PART TOPIC_AUTHORIZATION_FAILED OPERATION_NOT_ATTEMPTED",
    Api.InitProducerId: f"{_TRANSACTION} INVALID_TRANSACTION_TIMEOUT",
    Api.FindCoordinator: "COORDINATOR_NOT_AVAILABLE TRANSACTIONAL_ID_AUTHORIZATION_FAILED INVALID_REQUEST UNKNOWN",
    Api.Produce: (
        "NOT_LEADER_FOR_PARTITION LEADER_NOT_AVAILABLE UNKNOWN_TOPIC_OR_PART NOT_ENOUGH_REPLICAS "
        "NOT_ENOUGH_REPLICAS_AFTER_APPEND REQUEST_TIMED_OUT NETWORK_EXCEPTION KAFKA_STORAGE_ERROR INVALID_MSG "
        "OUT_OF_ORDER_SEQUENCE_NUMBER DUPLICATE_SEQUENCE_NUMBER INVALID_PRODUCER_EPOCH UNKNOWN_PRODUCER_ID "
        "INVALID_PRODUCER_ID_MAPPING INVALID_TXN_STATE TRANSACTION_ABORTABLE TOPIC_AUTHORIZATION_FAILED "
        "MSG_SIZE_TOO_LARGE RECORD_LIST_TOO_LARGE INVALID_TIMESTAMP INVALID_RECORD INVALID_REQUIRED_ACKS "
        "UNSUPPORTED_FOR_MESSAGE_FORMAT POLICY_VIOLATION UNKNOWN"
    ),
}


@dataclass(frozen=True)
class Case:
    """One answer."""

    api: Api
    name: str
    """Of the error, as librdkafka has it."""
    done: bool

    @property
    def code(self) -> int:
        """What the answer says."""
        return int(getattr(KafkaError, self.name))

    def __str__(self) -> str:
        return f"{self.api.name}, {'done' if self.done else 'not done'}, {self.name}"


# Of a record that it does not have, no broker says that it has it twice.
LIES = [Case(Api.Produce, "DUPLICATE_SEQUENCE_NUMBER", done=False)]
EVERY = [
    case
    for api, names in CODES.items()
    for name in names.split()
    for done in (False, True)
    if (case := Case(api, name, done)) not in LIES
]


@pytest.fixture(scope="module")
def servers(kafka_jars: None) -> Iterator[Servers]:
    """PostgreSQL and a broker, behind proxies."""
    with Servers() as made:
        yield made


def _of_transactions(request: Request) -> bool:
    """FindCoordinator's last byte says whose: 1 = a transactional id's."""
    return request.api_key != Api.FindCoordinator or request.frame[-1] == 1


def _answer(stage: LoadedStage, case: Case) -> Rule:
    """Let the next such request be answered so, and make the product ask if it does not by itself."""
    rule = stage.kafka.answer_with(case.api, case.code, where=_of_transactions, done=case.done)
    if case.api in (Api.InitProducerId, Api.FindCoordinator):
        stage.end_stream()
    return rule


if FULL:

    @pytest.mark.parametrize("api", CODES, ids=lambda api: api.name)
    def test_an_error_code_is_survived_whether_the_request_was_done_or_not(
        servers: Servers,
        api: Api,
        tmp_path: Path,
        record_property: Callable[[str, object], None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Guards against believing an error: what it says was not done may be done, what it says to repeat be over."""
        faulthandler.cancel_dump_traceback_later()
        cases = [case for case in EVERY if case.api is api]
        told: list[str] = []
        with LoadedStage(servers, "codes", 18, tmp_path) as stage:
            stage.recover()
            for case in cases:
                before, aborts = len(stage.product.text()), stage.aborts()
                rule = _answer(stage, case)
                rule.wait_hit(seconds=60)
                stage.recover()
                reasons = [
                    json.loads(line)["reason"]
                    for line in stage.product.text()[before:].splitlines()
                    if line.startswith("{") and json.loads(line)["event"] == "rewinding"
                ]
                told.append(f"{case}: {stage.recovered_s[-1]:.1f} s, {stage.aborts() - aborts} given up, {reasons}")
            stage.kafka.heal()
            verdict = stage.settle()
        record_property("verdict", verdict.totals)
        with capsys.disabled():
            print("\n" + "\n".join(told), f"\n{verdict}")
        assert verdict.clean, str(verdict)
