"""The protocol as an executable model: all next steps of a state, and what has to hold. Pure.

Where the product decides in pure code, a step asks it (`product.py`); what is written in the other modules is the order
of the steps and what PostgreSQL and Kafka do. A mutant is a subclass that leaves a rule out, or a wrong function in the
product's place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.checks import Checks
from tests.model.state import State, Topic, committed, replace, with_instance, with_topic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.base import Step


class Model(Checks):
    """`steps` and `faults` give (label, next state); `violation` and `goal` judge one."""

    def steps(self, state: State) -> Iterator[Step]:
        """What may happen without a fault."""
        for label, after in self.single_steps(state):
            yield label, self.eager(after) if self.setup.coarse else after

    def single_steps(self, state: State) -> Iterator[Step]:
        yield from self.slot_is_made(state)
        for i, instance in enumerate(state.instances):
            if instance.paused:
                yield f"{i}: resumes", with_instance(state, i, replace(instance, paused=False))
                if state.server.owner == i:
                    yield f"MAYBE server drops the silent connection of {i}", self.cut(state)
            elif instance.reader.phase != "refused":
                yield from self.reader(state, i, instance)
                for j, sink in enumerate(instance.sinks):
                    yield from self.sink(state, i, j, sink)
        for j, topic in enumerate(state.topics):
            yield from self.kafka_steps(state, j, topic)

    def kafka_steps(self, state: State, j: int, topic: Topic) -> Iterator[Step]:
        if topic.endtxn and topic.state == "open":
            yield f"kafka {j}: EndTxn arrives, commit prepared", with_topic(state, j, self.prepared(topic))
        if topic.state == "prepared":
            yield f"kafka {j}: markers written, {topic.rows} visible", with_topic(state, j, committed(topic))
        if topic.stable is not None:
            yield f"kafka {j}: the other producer's transaction ends", with_topic(state, j, replace(topic, stable=None))

    def prepared(self, topic: Topic) -> Topic:
        after = replace(topic, state="prepared", endtxn=False)
        return replace(after, older=(len(topic.log), topic.record)) if self.marked else after

    def eager(self, state: State) -> State:
        """Sinks that open and Kafka transactions that end get on at once: setups without it look in between."""
        while (after := next(self._next_in_between(state), None)) is not None:
            state = after
        return state

    def _next_in_between(self, state: State) -> Iterator[State]:
        for j, topic in enumerate(state.topics):
            if topic.endtxn or topic.state == "prepared":
                yield from (after for _, after in self.kafka_steps(state, j, topic))
        for i, instance in enumerate(state.instances):
            for j, sink in enumerate(instance.sinks):
                if instance.paused:
                    continue
                if sink.phase in self.opening:
                    yield from (after for _, after in self.open(state, i, j, sink))
                elif sink.settle:
                    yield from (after for _, after in self.settle(state, i, j, sink))
