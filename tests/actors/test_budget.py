"""The budget: bounded, fair, and free of what died with its generation."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import strategies as st

from actors import BudgetStatistics, SpecError, WeightBudget
from actors.testing import given_schedules


def test_a_limit_is_above_zero() -> None:
    """Guards against a budget that lets one item through at a time."""
    with pytest.raises(SpecError):
        WeightBudget(0)


async def test_what_does_not_fit_waits_and_small_ones_do_not_overtake() -> None:
    """Guards against a large item that starves behind a stream of small ones."""
    budget = WeightBudget(10)
    order: list[int] = []

    async def acquire(weight: int) -> None:
        await budget.acquire(weight, 0)
        order.append(weight)

    async with trio.open_nursery() as nursery:
        await budget.acquire(8, 0)
        for weight in (5, 1):
            nursery.start_soon(acquire, weight)
            await trio.testing.wait_all_tasks_blocked()
        assert order == []
        assert budget.statistics() == BudgetStatistics(limit=10, used=8, peak=8, generation=0, waiting=2)
        budget.release(8, 0)
    assert sorted(order) == [1, 5]
    assert budget.used == 6


async def test_an_item_above_the_limit_passes_when_nothing_else_is_out() -> None:
    """Guards against a pipeline that stands still for ever before one huge row."""
    budget = WeightBudget(10)
    with trio.fail_after(5):
        await budget.acquire(25, 0)
    with trio.move_on_after(0) as scope:
        await budget.acquire(1, 0)
    assert scope.cancelled_caught
    budget.release(25, 0)
    assert budget.used == 0


async def test_a_cancelled_waiter_lets_those_behind_it_go_on() -> None:
    """Guards against a small item that waits behind a big one that has left."""
    budget = WeightBudget(10)
    await budget.acquire(6, 0)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as inner:
                    inner.start_soon(budget.acquire, 9, 0)
                    await trio.testing.wait_all_tasks_blocked()
                    nursery.start_soon(budget.acquire, 3, 0)
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel(reason="test")
    assert budget.used == 9


async def test_swap_never_waits_and_may_pass_the_limit() -> None:
    """Guards against a deadlock of a stage that already holds what it wants to replace."""
    budget = WeightBudget(10)
    await budget.acquire(5, 0)
    budget.swap(5, 50, 0)
    assert budget.used == 50
    budget.swap(50, 2, 0)
    assert budget.used == 2


async def test_a_dead_generation_holds_nothing_and_blocks_nobody() -> None:
    """Guards against weights that leak with every restart until nothing fits."""
    budget = WeightBudget(10)
    await budget.acquire(10, 0)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(budget.acquire, 4, 0)
            nursery.start_soon(budget.acquire, 3, 1)
            await trio.testing.wait_all_tasks_blocked()
            budget.reset(1)
    assert budget.used == 3
    budget.release(10, 0)
    budget.swap(10, 99, 0)
    await budget.acquire(99, 0)
    assert budget.used == 3
    with pytest.raises(ValueError, match="dead"):
        budget.reset(0)


async def test_a_reset_keeps_what_the_new_generation_holds() -> None:
    """Guards against an early acquire whose release is then refused."""
    budget = WeightBudget(10)
    await budget.acquire(4, 1)
    await budget.acquire(4, 0)
    budget.reset(1)
    assert budget.used == 4
    budget.release(4, 1)


async def test_weights_that_make_no_sense_are_refused() -> None:
    """Guards against a double release, which would raise the limit in secret."""
    budget = WeightBudget(10)
    with pytest.raises(ValueError, match="negative"):
        await budget.acquire(-1, 0)
    await budget.acquire(1, 0)
    with pytest.raises(ValueError, match="holds 1"):
        budget.release(2, 0)


@given_schedules(
    weights=st.lists(st.integers(0, 12), min_size=1, max_size=15),
    cuts=st.lists(st.sampled_from([0, 1, 100]), min_size=15, max_size=15),
    reset_at=st.integers(0, 20),
)
async def test_the_limit_holds_except_for_one_item_alone(weights: list[int], cuts: list[int], reset_at: int) -> None:
    """Guards against memory that grows with the number of tasks."""
    budget = WeightBudget(10)
    held: dict[int, int] = {}

    async def hold(number: int, weight: int, cut: int) -> None:
        with trio.move_on_after(cut):
            generation = number % 2
            await budget.acquire(weight, generation)
            if generation >= budget.statistics().generation:
                held[number] = weight
            assert budget.used <= 10 or sum(1 for each in held.values() if each) <= 1
            await trio.sleep(number % 3)
            held.pop(number, None)
            budget.release(weight, generation)
            return
        if held.pop(number, None) is not None:
            budget.release(weight, number % 2)

    async def reset() -> None:
        await trio.sleep(reset_at)
        for number in [number for number in held if number % 2 == 0]:
            del held[number]
        budget.reset(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reset)
        for number, weight in enumerate(weights):
            nursery.start_soon(hold, number, weight, cuts[number])
    assert budget.used == 0
    assert budget.statistics().waiting == 0
