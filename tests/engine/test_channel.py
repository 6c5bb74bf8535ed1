"""A channel is bounded in items and bytes, closes from both ends, and loses neither items nor wake-ups."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopipe.engine.channel import Channel, Closed
from tests.support import drive


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_full_channel_makes_its_producer_wait():
    """By items."""

    async def main():
        channel = Channel[int]("a -> b", 2, 10**9)
        producer = asyncio.create_task(put_all(channel, range(5)))
        await settle()
        assert len(channel) == 2
        assert [await channel.get() for _ in range(3)] == [0, 1, 2]
        await settle()
        assert len(channel) == 2
        assert [await channel.get() for _ in range(2)] == [3, 4]
        await producer

    drive(main)


async def put_all(channel, items, nbytes=0):
    for item in items:
        await channel.put(item, nbytes)


def test_bytes_bound_a_channel_as_items_do():
    async def main():
        channel = Channel[int]("a -> b", 100, 10)
        producer = asyncio.create_task(put_all(channel, range(9), 4))
        await settle()
        assert len(channel) == 2
        assert [await channel.get() for _ in range(9)] == list(range(9))
        await producer
        assert channel.statistics.peak_bytes == 8

    drive(main)


def test_one_item_is_let_in_however_large():
    async def main():
        channel = Channel[str]("a -> b", 1, 10)
        await channel.put("whale", 1000)
        assert await channel.get() == "whale"

    drive(main)


def test_what_is_queued_at_close_is_still_handed_out():
    async def main():
        channel = Channel[int]("a -> b", 5, 10)
        await put_all(channel, [1, 2])
        channel.close()
        assert [await channel.get(), await channel.get()] == [1, 2]
        with pytest.raises(Closed):
            await channel.get()
        with pytest.raises(RuntimeError):
            await channel.put(3)

    drive(main)


def test_an_error_arrives_behind_what_came_before_it():
    """And the first close counts: a second one changes nothing."""

    async def main():
        channel = Channel[int]("a -> b", 5, 10)
        await channel.put(1)
        channel.close(ValueError("first"))
        channel.close(ValueError("second"))
        assert await channel.get() == 1
        with pytest.raises(ValueError, match="first"):
            await channel.get()

    drive(main)


def test_a_waiting_consumer_is_told_of_the_close():
    async def main():
        channel = Channel[int]("a -> b", 5, 10)
        getter = asyncio.create_task(channel.get())
        await settle()
        channel.close()
        with pytest.raises(Closed):
            await getter

    drive(main)


def test_a_waiting_producer_is_told_that_nothing_more_is_wanted():
    """And an error after that reaches nobody."""

    async def main():
        channel = Channel[int]("a -> b", 1, 10)
        await channel.put(1)
        putter = asyncio.create_task(channel.put(2))
        await settle()
        channel.cancel()
        with pytest.raises(Closed):
            await putter
        channel.close(ValueError("too late"))
        with pytest.raises(Closed):
            await channel.get()
        assert channel.cancelled

    drive(main)


def test_statistics_tell_who_waited_for_whom():
    async def main():
        channel = Channel[int]("a -> b", 1, 100)
        getter = asyncio.create_task(channel.get())
        await settle()
        await put_all(channel, range(2), 7)
        putter = asyncio.create_task(channel.put(2, 7))
        await settle()
        assert await channel.get() == 1
        await putter
        await getter
        statistics = channel.statistics
        assert (statistics.items, statistics.nbytes) == (3, 21)
        assert (statistics.peak_items, statistics.peak_bytes) == (1, 7)
        assert statistics.waited_to_get > 0
        assert statistics.waited_to_put > 0

    drive(main)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(["cancel get", "cancel put", "turn"]), max_size=30),
    st.integers(1, 3),
    st.integers(1, 12),
)
def test_a_cancelled_wait_loses_no_item_and_no_wake_up(events, items, nbytes):
    """Whatever waiting get or put is cancelled, and whenever: all that was put arrives, once and in order."""

    async def main():
        channel = Channel[int]("a -> b", items, nbytes)
        got, given_up = [], set()

        async def produce(i):
            try:
                await channel.put(i, 5)
            except asyncio.CancelledError:
                given_up.add(i)

        async def consume():
            got.append(await channel.get())

        putting, getting, n = None, None, 0
        for event in events:
            if putting is None or putting.done():
                putting, n = asyncio.create_task(produce(n)), n + 1
            if getting is None or getting.done():
                getting = asyncio.create_task(consume())
            await asyncio.sleep(0)
            if event == "cancel get":
                getting.cancel()
            elif event == "cancel put":
                putting.cancel()
        if getting is not None:
            getting.cancel()
            await asyncio.wait([getting])
        if putting is not None and not putting.done():
            while not putting.done():
                await asyncio.sleep(0)
                while len(channel):
                    got.append(await channel.get())
        channel.close()
        while True:
            try:
                got.append(await channel.get())
            except Closed:
                break
        assert got == [i for i in range(n) if i not in given_up]

    drive(main)
