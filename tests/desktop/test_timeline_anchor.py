"""The reader's place is kept through every change."""

from dataclasses import dataclass
from uuid import UUID

import pytest
import shiboken6
from hypothesis import given, settings
from hypothesis import strategies as st
from PySide6.QtWidgets import QApplication

from desktop.cache.rows import Edge
from desktop.timeline.elements.bubble import MessageElement
from desktop.timeline.metrics import ZOOM_STEPS
from desktop.timeline.view import MessageView
from desktop.timeline.window import OPEN_ROWS, TRIM_ABOVE
from desktop.ui.theme import Mode, theme
from shared.delivery import DeliveryStatus
from tests.desktop.timeline_kit import QuietFeed, message, part

TEXTS = (
    "ok",
    "one line of text that is a little longer",
    "many words " * 30,
    "a\nb\nc\nd",
    "👍",
    "مرحبا " * 20,
)


@dataclass
class Held:
    """The message to look at, and where it was."""

    key: UUID
    y: float


def first_whole_message(view: MessageView) -> Held | None:
    """The uppermost message whose top is on screen, else the one that fills the screen."""
    found: Held | None = None
    for index in view.visible_indices():
        element = view.stack.elements[index]
        if isinstance(element, MessageElement):
            found = Held(element.row.key, view.rect_of(index).top())
            if found.y >= 0:
                return found
    return found


def y_of(view: MessageView, key: UUID) -> float | None:
    index = view.stack.index_of(key)
    return None if index is None else view.rect_of(index).top()


def check_kept(view: MessageView, held: Held | None, was_at_end: bool) -> None:
    bar = view.verticalScrollBar()
    if was_at_end and view.feed.window.at_end:
        assert bar.value() == bar.maximum()
        return
    if held is None:
        return
    now = y_of(view, held.key)
    if now is None or abs(now - held.y) <= 1:
        return
    # Only the ends of the content may move it: there is nothing to scroll to beyond them.
    at_top = bar.value() == bar.minimum() and now < held.y
    at_bottom = bar.value() == bar.maximum() and now > held.y
    assert at_top or at_bottom, f"moved by {now - held.y} px at {bar.value()} of {bar.maximum()}"


def make_view(ui: QApplication, feed: QuietFeed) -> MessageView:
    view = MessageView(feed)
    view.resize(620, 520)
    view.show()
    ui.processEvents()
    return view


STEPS = st.one_of(
    st.tuples(st.just("older"), st.integers(1, 30)),
    st.tuples(st.just("append"), st.integers(1, 4)),
    st.tuples(st.just("edit"), st.integers(0, 10_000)),
    st.tuples(st.just("tick"), st.integers(0, 10_000)),
    st.tuples(st.just("remove"), st.integers(0, 10_000)),
    st.tuples(st.just("width"), st.integers(320, 1300)),
    st.tuples(st.just("height"), st.integers(200, 900)),
    st.tuples(st.just("zoom"), st.sampled_from(ZOOM_STEPS)),
    st.tuples(st.just("theme"), st.booleans()),
    st.tuples(st.just("scroll"), st.floats(0, 1)),
)


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(STEPS, min_size=1, max_size=12), start=st.floats(0, 1))
def test_no_change_moves_the_message_being_read(
    steps: list[tuple[str, float]], start: float, styled: QApplication
) -> None:
    theme().set_mode(Mode.LIGHT)
    first, last = 1_000, 1_060
    feed = QuietFeed(
        (message(n, TEXTS[n % len(TEXTS)], ours=n % 3 == 0) for n in range(first, last)), Edge.CACHED
    )
    view = make_view(styled, feed)
    bar = view.verticalScrollBar()
    bar.setValue(round(start * bar.maximum()))
    for step, amount in steps:
        if step == "scroll":
            bar.setValue(round(amount * bar.maximum()))
            continue
        held, was_at_end = first_whole_message(view), view.is_at_end
        rows = feed.window.rows
        if step == "older":
            first -= int(amount)
            older = [message(n, TEXTS[n % len(TEXTS)]) for n in range(first, first + int(amount))]
            feed.window.extend_older(part(older, Edge.CACHED))
            feed.changed.emit()
        elif step == "append":
            feed.merge(*(message(last + n, TEXTS[n % len(TEXTS)]) for n in range(int(amount))))
            last += int(amount)
        elif step == "edit":
            row = rows[int(amount) % len(rows)]
            number = row.position.at - 10_000
            feed.merge(message(number, TEXTS[(number + 1) % len(TEXTS)], version=row.version + 1))
        elif step == "tick":
            number = rows[int(amount) % len(rows)].position.at - 10_000
            feed.merge(message(number, TEXTS[number % len(TEXTS)], ours=True, status=DeliveryStatus.FAILED))
        elif step == "remove":
            feed.merge(removed=[rows[int(amount) % len(rows)].key])
        elif step == "width":
            view.resize(int(amount), view.height())
        elif step == "height":
            view.resize(view.width(), int(amount))
        elif step == "zoom":
            view.set_zoom(amount)
        elif step == "theme":
            theme().set_mode(Mode.DARK if amount else Mode.LIGHT)
        check_kept(view, held, was_at_end)
    view.close()
    shiboken6.delete(view)


def test_at_the_end_it_stays_at_the_end(ui: QApplication) -> None:
    feed = QuietFeed(message(n) for n in range(50))
    view = make_view(ui, feed)
    feed.merge(message(50, "new"))
    bar = view.verticalScrollBar()
    assert bar.value() == bar.maximum()
    assert view.rect_of(len(view.stack.elements) - 1).bottom() <= view.viewport().height()


def test_at_the_bottom_of_a_slice_it_is_not_at_the_end(ui: QApplication) -> None:
    """There is more below: what is loaded next must not scroll by."""
    feed = QuietFeed((message(n) for n in range(50)), Edge.END, Edge.CACHED)
    view = make_view(ui, feed)
    bar = view.verticalScrollBar()
    bar.setValue(bar.maximum())
    assert not view.is_at_end
    held = first_whole_message(view)
    feed.window.extend_newer(part([message(n) for n in range(50, 90)]))
    feed.changed.emit()
    assert held is not None
    assert y_of(view, held.key) == pytest.approx(held.y, abs=1)
    assert bar.value() < bar.maximum()


def test_a_short_conversation_stands_at_the_bottom(ui: QApplication) -> None:
    view = make_view(ui, QuietFeed([message(1), message(2)]))
    assert view.rect_of(len(view.stack.elements) - 1).bottom() > view.viewport().height() - 40


def test_the_window_stays_small_while_reading_back(ui: QApplication) -> None:
    """Far from the reader rows are forgotten, and the place is kept all the same."""
    feed = QuietFeed((message(n) for n in range(5_000, 5_000 + OPEN_ROWS)), Edge.CACHED)
    view = make_view(ui, feed)
    first = 5_000
    for _ in range(5):
        view.verticalScrollBar().setValue(40)
        held = first_whole_message(view)
        first -= 100
        feed.window.extend_older(part([message(n) for n in range(first, first + 100)], Edge.CACHED))
        feed.changed.emit()
        assert held is not None
        assert y_of(view, held.key) == pytest.approx(held.y, abs=1)
    assert len(feed.window.rows) == TRIM_ABOVE
    assert not feed.window.at_end
    assert "newer" not in feed.asked


def test_it_asks_for_more_two_screens_before_an_end(ui: QApplication) -> None:
    feed = QuietFeed((message(n) for n in range(200)), Edge.CACHED, Edge.CACHED)
    view = make_view(ui, feed)
    bar = view.verticalScrollBar()
    feed.asked.clear()
    bar.setValue(bar.maximum() // 2)
    assert feed.asked == []
    bar.setValue(view.viewport().height() * 2 - 5)
    assert feed.asked == ["older"]
    bar.setValue(bar.maximum() - view.viewport().height() * 2 + 5)
    assert feed.asked[-1] == "newer"


def test_selected_text_is_not_trimmed_away(ui: QApplication) -> None:
    feed = QuietFeed((message(n) for n in range(TRIM_ABOVE)), Edge.CACHED)
    view = make_view(ui, feed)
    view.select_all()
    feed.window.extend_older(part([message(n) for n in range(-100, 0)]))
    feed.changed.emit()
    assert len(feed.window.rows) == TRIM_ABOVE + 100
