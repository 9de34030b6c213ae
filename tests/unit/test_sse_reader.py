"""The reader of server-sent events, held to the HTML standard (section 9.2.6)."""

from __future__ import annotations

import pytest

from waymark.sse import Frame, SseReader

STREAM = (
    "\ufeff: hello\r\nretry: 2500\r\nid: 7\r\nevent: task.started\r\ndata: {\r\ndata:  é}\r\n\r\n"
)
FRAME = Frame(event="task.started", data="{\n é}", last_id="7")


def read(*parts: bytes) -> list[Frame]:
    reader = SseReader()
    return [frame for part in parts for frame in reader.feed(part)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_in_each_of_three_ways(end: str) -> None:
    assert read(STREAM.replace("\r\n", end).encode()) == [FRAME]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_frame_is_the_same_however_its_bytes_arrive(end: str) -> None:
    stream = STREAM.replace("\r\n", end).encode()
    for size in (1, 2, 3, 7):
        parts = [stream[start : start + size] for start in range(0, len(stream), size)]
        assert read(*parts) == [FRAME]


def test_a_frame_that_ends_in_a_carriage_return_does_not_wait_for_more() -> None:
    reader = SseReader()
    assert list(reader.feed(b"data: 1\r\r")) == [Frame("message", "1", "")]
    assert list(reader.feed(b"\ndata: 2\n\n")) == [Frame("message", "2", "")]


def test_comments_and_frames_without_data_are_passed_over() -> None:
    assert read(b": ping\n\nevent: empty\n\n: ping\ndata: 1\n\n") == [Frame("message", "1", "")]


def test_a_frame_that_no_blank_line_has_ended_is_dropped() -> None:
    assert read(b"data: whole\n\ndata: half\n") == [Frame("message", "whole", "")]


def test_an_id_stays_until_the_next_one_and_one_with_nul_is_no_id() -> None:
    frames = read(b"id: 1\ndata: a\n\ndata: b\n\nid: 2\0\ndata: c\n\nid\ndata: d\n\n")
    assert [frame.last_id for frame in frames] == ["1", "1", "1", ""]


def test_a_colon_may_be_followed_by_one_space_and_a_field_may_have_no_colon() -> None:
    frames = read(b"data:a\n\ndata:  b\n\ndata\n\ndata\ndata\n\nnonsense: x\ndata: c: d\n\n")
    assert [frame.data for frame in frames] == ["a", " b", "", "\n", "c: d"]


def test_only_digits_set_the_pause_before_a_reconnection() -> None:
    reader = SseReader()
    assert list(reader.feed(b"retry: 2500\n\n")) == []
    assert reader.retry == 2.5
    assert list(reader.feed(b"retry: soon\nretry: -1\nretry: 1e3\n\n")) == []
    assert reader.retry == 2.5


def test_bytes_that_are_not_utf_8_break_nothing() -> None:
    assert read(b"data: \xff\n\n") == [Frame("message", "\ufffd", "")]
