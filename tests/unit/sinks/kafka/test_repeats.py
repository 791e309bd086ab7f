"""When a commit counts as sent twice."""

from __future__ import annotations

import pytest

from deltaforge.sinks.kafka.repeats import Repeats

COORDINATOR = "[thrd:TxnCoordinator]: TxnCoordinator: 127.0.0.1:9092: Disconnected (after 10ms in state UP)"
OTHER = "[thrd:127.0.0.1:9092/1]: 127.0.0.1:9092/1: Disconnected (after 10ms in state UP)"


def lose(repeats: Repeats, text: str = COORDINATOR, facility: str = "FAIL") -> None:
    """A line as confluent-kafka hands it on."""
    repeats.log(20, "%s [%s] %s", facility, "rdkafka#producer-1", text)


def commit(repeats: Repeats, at: float, took: float, *losses: str) -> bool:
    """A commit that began at `at`, took so long, and in which this was told."""
    repeats.begins(at)
    for text in losses:
        lose(repeats, text)
    return not repeats.quick(at + took) and repeats.repeated(at + took)


def test_a_quick_commit_was_sent_once_whatever_was_lost() -> None:
    """Guards against a new producer after a commit that had no time for a second copy."""
    assert not commit(Repeats({}), 0, 0.079, COORDINATOR)


@pytest.mark.parametrize("text", [COORDINATOR, OTHER])
@pytest.mark.parametrize("facility", ["FAIL", "REQTMOUT"])
def test_a_loss_during_a_slow_commit_may_have_repeated_it(text: str, facility: str) -> None:
    """Guards against a late copy that meets the next transaction."""
    repeats = Repeats({})
    repeats.begins(0)
    lose(repeats, text, facility)
    assert not repeats.quick(0.08)
    assert repeats.repeated(0.08)


def test_a_slow_commit_without_a_loss_was_sent_once() -> None:
    """Guards the throughput on a busy machine, where every commit is slow."""
    repeats = Repeats({})
    repeats.log(20, "%s [%s] %s", "GETPID", "rdkafka#producer-1", "TxnCoordinator: loading")
    assert not commit(repeats, 0, 4.9)
    assert not commit(repeats, 10, 0.5)


def test_a_loss_of_the_coordinator_makes_every_later_slow_commit_doubtful() -> None:
    """Guards against losses that librdkafka does not tell, because it has told others like them."""
    repeats = Repeats({})
    lose(repeats)
    assert commit(repeats, 20, 0.1)
    assert not commit(repeats, 40, 0.01)
    assert commit(repeats, 60, 0.1)


def test_an_earlier_loss_of_another_broker_says_nothing_about_commits() -> None:
    """Guards against a new producer after each slow commit for as long as one of several brokers is away."""
    repeats = Repeats({})
    lose(repeats, OTHER)
    assert not commit(repeats, 20, 0.1)


@pytest.mark.parametrize(("gap", "doubtful"), [(49, False), (51, True)])
def test_a_connection_without_use_may_have_been_closed_untold(gap: float, *, doubtful: bool) -> None:
    """Guards against idle closes: librdkafka never tells them, and a loss like them is not told either."""
    between, within = Repeats({}), Repeats({})
    assert not commit(between, 0, 0.1)
    between.speaks(gap)
    assert commit(between, gap + 1, 0.1) is doubtful
    within.speaks(0)
    assert commit(within, gap, 0.1) is doubtful


def test_a_very_long_commit_is_doubtful_in_any_case() -> None:
    """Guards against a copy of which no line tells."""
    assert commit(Repeats({}), 0, 5.0)


@pytest.mark.parametrize(
    ("settings", "quickest_ms"),
    [
        ({}, 80),
        ({"retry.backoff.ms": "500"}, 400),
        ({"retry.backoff.ms": "1"}, 0.8),
        ({"retry.backoff.max.ms": "10"}, 8),
        ({"retry.backoff.ms": "500", "retry.backoff.max.ms": "50"}, 40),
    ],
)
def test_the_shortest_back_off_follows_the_settings(settings: dict[str, str], quickest_ms: float) -> None:
    """Guards against a second copy that was sent sooner than was thought possible."""
    for ms, doubtful in ((quickest_ms - 0.1, False), (quickest_ms + 0.1, True)):
        assert commit(Repeats(settings), 0, ms / 1000, COORDINATOR) is doubtful


@pytest.mark.parametrize(("given", "level"), [({}, 6), ({"log_level": "3"}, 6), ({"log_level": "7"}, 7)])
def test_lines_that_are_needed_cannot_be_switched_off(given: dict[str, str], level: int) -> None:
    """Guards against a user's settings that hide losses from us."""
    settings = Repeats({**given, "log.connection.close": "false"}).settings
    assert settings == {"log_level": level, "log.connection.close": True}
