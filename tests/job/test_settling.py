"""When a file is at rest, told by a clock that the test turns."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aiopipe.job.settling import Settling, Signature

OLD = Signature(1, 0, 7)  # last written to at 0, long before the test's wall clock


def fresh(size: int, at: float, inode: int = 7) -> Signature:
    return Signature(size, int(at * 1e9), inode)


def test_what_was_there_long_ago_is_ready_at_once():
    files = Settling(2.0)
    files.look({"b": OLD, "a": OLD}, 0.0, 1000.0)
    assert files.ready(0.0) == ["a", "b"]


def test_a_file_that_grows_is_ready_when_it_has_been_still_for_the_settle_time():
    files = Settling(2.0)
    for second in range(5):
        files.look({"a": fresh(second, 1000 + second)}, second, 1000.0 + second)
        assert files.ready(second) == [] and files.wait(second) == 2.0
    files.look({"a": fresh(4, 1004)}, 5.0, 1005.0)
    assert files.ready(5.0) == [] and files.wait(5.0) == 1.0
    assert files.ready(6.0) == ["a"]


def test_one_moved_in_over_another_is_ready_at_once_and_one_written_over_is_not():
    files = Settling(2.0)
    files.look({"moved": OLD, "written": OLD}, 0.0, 1000.0)
    files.done(["moved", "written"])
    files.look({"moved": fresh(5, 500, inode=8), "written": fresh(5, 999.5)}, 1.0, 1001.0)
    assert files.ready(1.0) == ["moved"]
    assert files.ready(3.0) == ["moved", "written"]


def test_done_and_failed_files_rest_until_they_change():
    files = Settling(2.0)
    files.look({"a": OLD, "b": OLD}, 0.0, 1000.0)
    files.done(["a"])
    files.failed(["b", "never seen"])
    files.look({"a": OLD, "b": OLD}, 9.0, 1009.0)
    assert files.ready(9.0) == [] and files.wait(9.0) is None
    assert files.with_state("failed") == ["b"]
    files.look({"a": OLD, "b": fresh(3, 1009)}, 10.0, 1010.0)
    assert files.ready(12.0) == ["b"] and files.with_state("failed") == []


def test_a_file_that_is_gone_is_forgotten():
    files = Settling(2.0)
    files.look({"a": OLD}, 0.0, 1000.0)
    assert files.look({"b": OLD}, 1.0, 1001.0) == ["a"]
    files.done(["b"])
    assert files.ready(5.0) == [] and files.wait(5.0) is None


def test_a_clock_of_another_machine_in_the_future_only_delays():
    files = Settling(2.0)
    files.look({"a": fresh(1, 5000)}, 0.0, 1000.0)
    assert files.ready(1.9) == [] and files.ready(2.0) == ["a"]


def test_a_round_sees_its_own_files_and_those_done_in_the_state_in_which_they_were_seen():
    files = Settling(2.0)
    files.look({"done": OLD, "mine": OLD, "other": OLD}, 0.0, 1000.0)
    files.done(["done"])
    names = ("done", "mine", "other", "unseen")
    assert [n for n in names if files.may_read(n, OLD, ["mine"])] == ["done", "mine"]
    assert not [n for n in names if files.may_read(n, fresh(2, 1000), ["mine"])]


@given(st.lists(st.tuples(st.floats(0.1, 3.0), st.booleans()), min_size=1, max_size=30))
def test_never_ready_within_the_settle_time_of_a_change_however_often_it_is_looked_at(steps: list[tuple[float, bool]]):
    files, now, changed, size = Settling(2.0), 0.0, 0.0, 0
    files.look({"a": fresh(size, 1000)}, now, 1000.0)
    for pause, change in steps:
        now += pause
        if change:
            size, changed = size + 1, now
        files.look({"a": fresh(size, 1000 + changed)}, now, 1000.0 + now)
        assert (files.ready(now) == ["a"]) == (now - changed >= 2.0)
