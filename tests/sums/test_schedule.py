from __future__ import annotations

import random

import pytest

from aiopipe.sums.schedule import Piece, Schedule


@pytest.mark.parametrize("seed", range(20))
def test_results_leave_in_the_order_in_which_paths_came_however_lanes_behave(seed: int):
    """Lanes finish in any order, hand work back, and set large files apart; nothing is lost or doubled."""
    dice = random.Random(seed)
    schedule = Schedule(lanes=3, locked_seconds=dice.choice([0, 1e-5]))
    expected: list[bytes] = []
    got: list[bytes] = []
    running = []
    to_add = 30
    while to_add or not schedule.idle:
        if to_add and schedule.wants_input:
            to_add -= 1
            paths = [b"%d/%d" % (to_add, each) for each in range(dice.randint(1, 50))]
            expected += paths
            if dice.random() < 0.1:
                expected.append(b"known")
                schedule.add(paths)
                schedule.add_done(b"known", [b"known"])
            else:
                schedule.add(paths)
        while (job := schedule.next_job()) is not None:
            running.append(job)
        job = running.pop(dice.randrange(len(running)))
        done = dice.randint(0 if not job.alone else 1, len(job.paths))
        pieces = []
        for place, path in enumerate(job.paths[:done]):
            apart = not job.alone and dice.random() < 0.2
            pieces.append(Piece(place, 1, None if apart else [path]))
        schedule.complete(job, pieces, dice.random() * 0.1)
        for values in schedule.ready():
            got += values
    assert got == expected
    assert schedule.held == 0


def test_input_is_refused_while_the_first_result_is_missing_and_too_much_is_held():
    schedule = Schedule(lanes=2)
    schedule.add([b"slow"])
    slow = schedule.next_job()
    added = 0
    while schedule.wants_input:
        schedule.add([b"x"] * 1024)
        added += 1024
        while (job := schedule.next_job()) is not None:
            schedule.complete(job, [Piece(0, len(job.paths), list(job.paths))], 0.001)
    assert 60_000 < added < 70_000
    schedule.complete(slow, [Piece(0, 1, [b"slow"])], 1.0)
    assert sum(len(values) for values in schedule.ready()) == added + 1
    assert schedule.wants_input


def test_tiny_files_get_one_thread_and_larger_ones_all():
    schedule = Schedule(lanes=4, locked_seconds=1e-5)
    for _ in range(50):
        schedule.add([b"x"] * 64)
    first = schedule.next_job()
    schedule.complete(first, [Piece(0, len(first.paths), [])], len(first.paths) * 1e-7)
    for _ in range(10):
        job = schedule.next_job()
        schedule.complete(job, [Piece(0, len(job.paths), [])], len(job.paths) * 5e-6)
    assert schedule.next_job() is not None
    assert schedule.next_job() is None
