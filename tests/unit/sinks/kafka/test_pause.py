"""The pause behind a commit."""

from __future__ import annotations

from deltaforge.sinks.kafka.pause import MarkerPause


def test_a_second_question_makes_it_longer_up_to_a_limit() -> None:
    """Guards against a pause that costs more than the question it saves."""
    pause = MarkerPause()
    pause.delivered(0.001, 0.025)
    first = pause.seconds
    assert first > 0
    for _ in range(100):
        pause.delivered(0.001, 0.025)
    assert first < pause.seconds <= 0.005


def test_a_quick_broker_needs_none() -> None:
    """Guards against a pause that stays after the broker's bad minute."""
    pause = MarkerPause()
    for _ in range(10):
        pause.delivered(0.001, 0.025)
    for _ in range(200):
        pause.delivered(0.001, 0.004)
    assert pause.seconds == 0


def test_a_large_transaction_teaches_nothing() -> None:
    """Guards against a backlog, slow to deliver by its size, that pauses after every commit."""
    pause = MarkerPause()
    pause.delivered(0.5, 2.0)
    assert pause.seconds == 0
