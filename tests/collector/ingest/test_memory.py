"""The memory that shipments share: never more than there is, in turn, and no holder at the cost of all others."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenyield_collector.ingest.memory import Held, MemoryBudget, OverBudget, weight_bytes

WHOLE, SHARE = 100, 40

asked = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, WHOLE), st.integers(0, 3), st.booleans()), min_size=1, max_size=30
)
"""Holder, amount, how many turns of the loop it keeps it, whether it gives up before its turn."""


@given(asked)
def test_never_more_than_there_is_and_everybody_comes_to_their_turn(requests: list[tuple[str, int, int, bool]]) -> None:
    budget = MemoryBudget(WHOLE, SHARE)
    most = 0

    async def one(holder: str, amount: int, turns: int) -> None:
        nonlocal most
        with await budget.take(holder, amount) as held:
            most = max(most, budget.held_bytes)
            for turn in range(turns):
                held.shrink(amount // (turn + 2))
                await asyncio.sleep(0)

    async def all_of_them() -> None:
        tasks = [asyncio.create_task(one(holder, amount, turns)) for holder, amount, turns, _ in requests]
        await asyncio.sleep(0)
        for task, (*_, gives_up) in zip(tasks, requests, strict=True):
            if gives_up:
                task.cancel()
                await asyncio.sleep(0)
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await asyncio.wait_for(task, 10)

    asyncio.run(all_of_them())
    assert most <= WHOLE
    assert budget.held_bytes == 0


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def test_a_greedy_holder_waits_for_itself_and_others_pass(loop: asyncio.Runner) -> None:
    async def tried() -> None:
        budget = MemoryBudget(WHOLE, SHARE)
        first = await budget.take("greedy", WHOLE // 2)  # what nobody else needs
        second = asyncio.create_task(budget.take("greedy", 10))
        await asyncio.sleep(0)
        with await asyncio.wait_for(budget.take("other", 30), 10):
            assert not second.done()
        first.shrink(SHARE - 10)
        assert isinstance(await asyncio.wait_for(second, 10), Held)

    loop.run(tried())


def test_a_great_one_is_not_passed_for_ever(loop: asyncio.Runner) -> None:
    async def tried() -> None:
        budget = MemoryBudget(WHOLE, SHARE)
        small = await budget.take("a", 30)
        great = asyncio.create_task(budget.take("b", WHOLE))
        await asyncio.sleep(0)
        assert budget.take_now("c", 1) is None
        small.shrink(0)
        (await asyncio.wait_for(great, 10)).shrink(0)
        with pytest.raises(OverBudget):
            await budget.take("b", WHOLE + 1)

    loop.run(tried())


def test_json_is_weighed_by_what_becomes_of_it() -> None:
    assert weight_bytes(b"") == 0
    assert weight_bytes(b'{"a":1}') == 7 + 250 + 1500
    assert weight_bytes(b"[" * 1000) == 1000
