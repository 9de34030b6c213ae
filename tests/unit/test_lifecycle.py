"""The lifecycle: closed states, and no way out of an end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.lifecycle import ALLOWED, Priority, TaskStatus

ENDS = {TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELED}


def test_every_state_has_its_row_in_the_table_and_leads_to_states_only() -> None:
    assert set(ALLOWED) == set(TaskStatus)
    assert set().union(*ALLOWED.values()) <= set(TaskStatus)


def test_exactly_the_three_ends_are_terminal() -> None:
    assert {status for status in TaskStatus if status.terminal} == ENDS


def test_a_task_is_never_given_back_to_the_state_it_is_in() -> None:
    assert [status for status in TaskStatus if status in ALLOWED[status]] == []


def test_success_comes_from_running_alone() -> None:
    before = [status for status in TaskStatus if TaskStatus.SUCCEEDED in ALLOWED[status]]
    assert before == [TaskStatus.RUNNING]


@given(st.lists(st.sampled_from(TaskStatus), max_size=30))
def test_no_path_leaves_a_terminal_state(wishes: list[TaskStatus]) -> None:
    """Wishes that are not allowed are refused, as the database does."""
    path = [TaskStatus.QUEUED]
    for wish in wishes:
        if wish in ALLOWED[path[-1]]:
            path.append(wish)
    assert all(status not in ENDS for status in path[:-1])


def test_every_state_can_be_reached_and_every_open_one_can_end() -> None:
    def reachable(start: TaskStatus) -> set[TaskStatus]:
        found, new = {start}, [start]
        while new:
            new = [status for status in ALLOWED[new.pop()] if status not in found] + new
            found.update(new)
        return found

    assert reachable(TaskStatus.QUEUED) == set(TaskStatus)
    for status in set(TaskStatus) - ENDS:
        assert reachable(status) >= ENDS


def test_high_priority_sorts_before_normal_before_low() -> None:
    assert sorted(Priority) == [Priority.HIGH, Priority.NORMAL, Priority.LOW]
