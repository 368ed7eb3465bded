"""Which rows are loaded: pages, merging, trimming."""

from hypothesis import given
from hypothesis import strategies as st

from desktop.cache.rows import Edge
from desktop.timeline.window import TimelineWindow
from tests.desktop.timeline_kit import message, part


def loaded(*numbers: int, older: Edge = Edge.END, newer: Edge = Edge.END) -> TimelineWindow:
    window = TimelineWindow()
    window.replace(part([message(number) for number in numbers], older, newer))
    return window


def numbers(window: TimelineWindow) -> list[int]:
    return [row.position.at - 10_000 for row in window.rows]


def test_pages_join_at_both_ends() -> None:
    window = loaded(5, 6, older=Edge.CACHED, newer=Edge.CACHED)
    window.extend_older(part([message(3), message(4)], older=Edge.REMOTE))
    window.extend_newer(part([message(7)]))
    assert numbers(window) == [3, 4, 5, 6, 7]
    assert (window.older, window.newer) == (Edge.REMOTE, Edge.END)
    assert window.at_end


def test_a_page_that_overlaps_adds_nothing_twice() -> None:
    window = loaded(5, 6, older=Edge.CACHED)
    window.extend_older(part([message(4), message(5)]))
    assert numbers(window) == [4, 5, 6]


def test_news_beyond_an_unloaded_end_is_left_to_paging() -> None:
    window = loaded(5, 6, older=Edge.CACHED, newer=Edge.CACHED)
    assert not window.merge([message(2), message(9)])
    assert numbers(window) == [5, 6]


def test_news_at_the_end_is_added_and_a_change_replaces() -> None:
    window = loaded(5, 6)
    assert window.merge([message(7), message(6, "edited")])
    assert numbers(window) == [5, 6, 7]
    assert window.rows[1] == message(6, "edited")


def test_a_message_late_in_time_takes_its_place_in_the_middle() -> None:
    window = loaded(1, 5)
    window.merge([message(3)])
    assert numbers(window) == [1, 3, 5]


def test_an_unsent_message_keeps_its_key_when_it_gets_its_place() -> None:
    window = loaded(1, 2)
    sent = message(3)
    waiting = message(3, unsent=None)
    waiting = type(waiting)(
        **{
            **{name: getattr(waiting, name) for name in waiting.__struct_fields__},
            "position": type(waiting.position)(pending=True, at=1, id=waiting.key),
        }
    )
    window.merge([waiting])
    assert window.rows[-1].position.pending
    window.merge([message(4), sent])
    assert numbers(window) == [1, 2, 3, 4]
    assert window.row(sent.key) is sent


def test_removal() -> None:
    window = loaded(1, 2, 3)
    assert window.merge([], [message(2).key])
    assert not window.merge([], [message(99).key])
    assert numbers(window) == [1, 3]


def test_news_for_an_empty_conversation() -> None:
    window = loaded()
    assert window.merge([message(1)])
    assert numbers(window) == [1]


def test_trimming_says_that_more_is_in_the_cache() -> None:
    window = loaded(*range(10))
    window.trim_older(6)
    assert (numbers(window), window.older, window.newer) == ([4, 5, 6, 7, 8, 9], Edge.CACHED, Edge.END)
    window.trim_newer(3)
    assert (numbers(window), window.newer) == ([4, 5, 6], Edge.CACHED)
    assert window.row(message(9).key) is None
    assert window.index_of(message(5).key) == 1


@given(st.lists(st.tuples(st.sampled_from(["merge", "remove"]), st.integers(0, 30), st.integers(0, 3))))
def test_rows_stay_sorted_and_unique(steps: list[tuple[str, int, int]]) -> None:
    window, expected = loaded(10, 11), {10: "message 10", 11: "message 11"}
    for step, number, edit in steps:
        if step == "merge":
            window.merge([message(number, f"edit {edit}")])
            expected[number] = f"edit {edit}"
        else:
            window.merge([], [message(number).key])
            expected.pop(number, None)
    assert numbers(window) == sorted(expected)
    assert all(window.index_of(row.key) == index for index, row in enumerate(window.rows))
