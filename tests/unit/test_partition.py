"""The partitioner against values of the Java client, one key and many keys at a time."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaforge.sinks.kafka.partition import murmur2, partition_for, partitions

JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "expected"), JAVA.items())
def test_the_hash_is_the_java_clients(key: bytes, expected: int) -> None:
    """Guards against rows of one key in two partitions when another producer writes too. Values: Kafka's UtilsTest."""
    assert murmur2(key) == expected & 0xFFFFFFFF
    assert partition_for(key, 12) == (expected & 0x7FFFFFFF) % 12


@given(st.lists(st.binary(max_size=70), max_size=60), st.integers(1, 1000))
def test_many_keys_at_once_give_what_each_alone_gives(keys: list[bytes], number: int) -> None:
    """Guards against lanes that spill into each other."""
    assert partitions(keys, number) == [partition_for(key, number) for key in keys]


@given(st.integers(0, 40), st.integers(8, 3000))
def test_keys_of_one_length_give_what_each_alone_gives(size: int, many: int) -> None:
    """Guards against a wrong tail or a wrong cut between groups."""
    keys = [(b"%d" % (number * 7919)).rjust(size, b"\xff")[-size:] if size else b"" for number in range(many)]
    assert partitions(keys, 12) == [partition_for(key, 12) for key in keys]


def test_keys_that_are_none_stay_together_and_move_on_with_each_call() -> None:
    """Guards against one hot partition, and against produce requests of one record each."""
    unkeyed = count(5)
    assert partitions([None, b"abc", None], 4, unkeyed=unkeyed) == [1, partition_for(b"abc", 4), 1]
    assert partitions([None, None], 4, unkeyed=unkeyed) == [2, 2]
