"""A call of librdkafka that does not return."""

from __future__ import annotations

from deltaforge.sinks.kafka.hang import HUNG_S, LOOK_S, CallWatch

LOOKS = round(HUNG_S / LOOK_S)


def test_a_call_that_does_not_return_is_told_once_it_has_been_looked_at_long_enough() -> None:
    """Guards against a pipeline that waits for an hour for a thread that nobody can cancel."""
    hung: list[str] = []
    watch = CallWatch(lambda: hung.append("hung"))
    with watch.call():
        for _ in range(LOOKS - 1):
            watch.look()
        assert not hung
        watch.look()
    assert hung == ["hung"]


def test_calls_that_return_are_no_hang_however_many_there_are() -> None:
    """Guards against ending a process that waits for Kafka, second by second, as it should."""
    watch = CallWatch(lambda: (_ for _ in ()).throw(AssertionError("hung")))
    for _ in range(2 * LOOKS):
        with watch.call():
            watch.look()
        watch.look()
    with watch.call():
        # A second one that waits for its turn is no reason either while the first ones return.
        for _ in range(2 * LOOKS):
            with watch.call():
                watch.look()
    assert not watch.waits
