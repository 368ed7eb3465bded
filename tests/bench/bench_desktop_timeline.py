"""A chat of 100,000 messages: opening, paging back, new messages, repainting; ours and Qt's own list view.

Each contestant runs in a process of its own, over the same messages in memory, on the offscreen platform: the
figures are of laying out and painting on the CPU, without a screen. The list view is what Qt offers for this
(`QListView` with a delegate that lays text out with `QTextLayout` and caches sizes); it is asked to draw less
than ours: plain text in a rounded box, no groups, dates, ticks or links.
"""

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import UUID

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import msgspec
import psutil
from PySide6.QtCore import QAbstractListModel, QModelIndex, QPersistentModelIndex, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QImage, QPainter, QTextLayout, QTextOption
from PySide6.QtWidgets import QApplication, QListView, QStyledItemDelegate, QStyleOptionViewItem, QWidget

from desktop.cache.rows import MessageRow
from desktop.gallery import ListTimeline, long_history
from desktop.timeline.view import MessageView
from desktop.ui.theme import Mode, theme
from shared.content import TextContent

RESULTS = Path(__file__).resolve().parent.parent.parent / ".cache" / "bench" / "desktop_timeline.json"
MESSAGES = 100_000
SIZE = (900, 900)
WANTED_MS = {"open": 60.0, "page back": 25.0, "repaint p95": 4.0}
ROUNDS = 12

Figures = dict[str, float]


def main() -> int:
    if len(sys.argv) > 1:
        sys.stdout.write(json.dumps({"ours": ours, "list view": list_view}[sys.argv[1]]()))
        return 0
    report: dict[str, Figures] = {}
    for name in ("ours", "list view"):
        done = subprocess.run([sys.executable, __file__, name], check=True, stdout=subprocess.PIPE, text=True)
        report[name] = json.loads(done.stdout)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1))
    sys.stdout.write(
        f"## Timeline of {MESSAGES:,} messages, {SIZE[0]} × {SIZE[1]} px\n\n"
        "| | ours | wanted | QListView + delegate | ratio |\n|---|---|---|---|---|\n"
    )
    for what, figure in report["ours"].items():
        unit = "MB" if what == "memory" else "ms"
        peer = report["list view"].get(what)
        wanted = f"≤ {WANTED_MS[what]:.0f} ms" if what in WANTED_MS else ""
        compared = ("–", "–")
        if peer is not None:
            compared = (f"{peer:.1f} {unit}", f"{peer / max(figure, 0.01):.1f} ×")
        sys.stdout.write(f"| {what} | {figure:.1f} {unit} | {wanted} | {compared[0]} | {compared[1]} |\n")
    missed = [what for what, limit in WANTED_MS.items() if report["ours"][what] > limit]
    verdict = f"Missed: {', '.join(missed)}." if missed else "All wanted figures are met."
    sys.stdout.write(f"\n{verdict}\n")
    return 0


def milliseconds(work: Callable[[], object]) -> float:
    """Processor time of this thread: all of it is work here, and neighbours on the machine do not count."""
    start = time.thread_time()
    work()
    return (time.thread_time() - start) * 1000


def start() -> tuple[QApplication, list[MessageRow], float]:
    """The application, the messages, and the memory (MB) used so far."""
    app = QApplication([])
    theme().install(app, Mode.LIGHT)
    rows = long_history(UUID(int=1), datetime.now(UTC), MESSAGES)
    # As the program does, see desktop/program.py.
    gc.disable()
    gc.collect()
    gc.freeze()
    return app, rows, memory()


def memory() -> float:
    return float(psutil.Process().memory_info().rss / 2**20)


def repaints(view: QWidget, scroll: Callable[[int], None]) -> list[float]:
    """Painting one frame after each of 200 small scrolls."""
    image = QImage(*SIZE, QImage.Format.Format_RGB32)
    times = []
    for step in range(200):
        scroll(37 if step % 40 < 20 else -37)
        painter = QPainter(image)
        times.append(milliseconds(lambda: view.render(painter, QPointF().toPoint())))  # noqa: B023 - at once
        painter.end()
    return times


def ours() -> Figures:
    app, rows, before = start()
    feed = ListTimeline()
    view = MessageView(feed)
    view.resize(*SIZE)
    view.show()
    app.processEvents()

    def open_chat() -> None:
        feed.show(rows, "Sara")
        view.grab()

    opened = milliseconds(open_chat)
    used = memory() - before
    bar = view.verticalScrollBar()
    again = []
    for _ in range(ROUNDS):
        view._composer.cache.clear()  # as if it had never been open
        again.append(milliseconds(open_chat))

    def page_back() -> None:
        bar.setValue(view.viewport().height() * 2 - 10)
        view.grab()

    back = []
    for _ in range(ROUNDS):
        bar.setValue(view.viewport().height() * 3)
        app.processEvents()
        back.append(milliseconds(page_back))
    frames = repaints(view.viewport(), lambda step: bar.setValue(bar.value() + step))
    view.jump_to_newest()
    template = rows[-1]

    def append(number: int) -> None:
        key = UUID(int=9_000_000 + number)
        position = type(template.position)(False, template.position.at + number, key)
        feed.arrive(msgspec.structs.replace(template, key=key, id=key, position=position))
        view.grab()

    feed.all = rows[-200:]
    appended = [milliseconds(partial(append, number)) for number in range(1, 40)]

    def widen(width: int) -> None:
        view.resize(width, SIZE[1])
        view.grab()

    widths = [milliseconds(partial(widen, width)) for width in (700, 900, 640, 900)]
    return {
        "first open": opened,
        "open": statistics.median(again),
        "page back": statistics.median(back),
        "page back, worst": max(back),
        "repaint p50": statistics.median(frames),
        "repaint p95": statistics.quantiles(frames, n=20)[-1],
        "new message": statistics.median(appended),
        "new width": statistics.median(widths),
        "memory": used,
    }


# --- Qt's own list view ---------------------------------------------------------------------------


class _Rows(QAbstractListModel):
    def __init__(self, texts: list[str]) -> None:
        super().__init__()
        self.texts = texts

    def rowCount(  # noqa: N802 - Qt's name
        self,
        parent: QModelIndex | QPersistentModelIndex = QModelIndex(),  # noqa: B008 - Qt's signature
    ) -> int:
        return len(self.texts)

    def data(
        self, index: QModelIndex | QPersistentModelIndex, role: int = Qt.ItemDataRole.DisplayRole
    ) -> object:
        return self.texts[index.row()] if role == Qt.ItemDataRole.DisplayRole else None


class _Delegate(QStyledItemDelegate):
    def __init__(self) -> None:
        super().__init__()
        self._sizes: dict[tuple[str, int], QSize] = {}
        self._options = QTextOption()
        self._options.setWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)

    def _lay_out(self, text: str, width: int) -> tuple[QTextLayout, float, float]:
        layout = QTextLayout(text, QApplication.font())
        layout.setTextOption(self._options)
        layout.beginLayout()
        height = used = 0.0
        while (line := layout.createLine()).isValid():
            line.setLineWidth(width)
            line.setPosition(QPointF(0, height))
            height += line.height()
            used = max(used, line.naturalTextWidth())
        layout.endLayout()
        return layout, used, height

    def sizeHint(  # noqa: N802 - Qt's name
        self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> QSize:
        text, width = index.data(), option.widget.width()
        size = self._sizes.get((text, width))
        if size is None:
            _, used, height = self._lay_out(text, min(538, round(width * 0.7)))
            size = self._sizes[text, width] = QSize(round(used) + 22, round(height) + 20)
        return size

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        rect = QRectF(option.rect)
        width = option.widget.width()
        layout, used, height = self._lay_out(index.data(), min(538, round(width * 0.7)))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(theme().tokens.bubble_in)
        painter.drawRoundedRect(QRectF(rect.left() + 18, rect.top() + 3, used + 22, height + 14), 14, 14)
        painter.setPen(theme().tokens.bubble_in_text)
        layout.draw(painter, QPointF(rect.left() + 29, rect.top() + 10))


def list_view() -> Figures:
    app, rows, before = start()
    texts = [row.content.body for row in rows if isinstance(row.content, TextContent)]
    model = _Rows(texts)
    delegate = _Delegate()
    view = QListView()
    view.setItemDelegate(delegate)
    view.setVerticalScrollMode(QListView.ScrollMode.ScrollPerPixel)
    view.setResizeMode(QListView.ResizeMode.Adjust)
    view.resize(*SIZE)
    view.show()
    app.processEvents()

    def open_chat() -> None:
        view.setModel(model)
        view.scrollToBottom()
        view.grab()

    opened = milliseconds(open_chat)
    used = memory() - before
    bar = view.verticalScrollBar()
    frames = repaints(view.viewport(), lambda step: bar.setValue(bar.value() + step))

    def prepend() -> None:
        model.beginInsertRows(QModelIndex(), 0, 99)
        model.texts[0:0] = texts[:100]
        model.endInsertRows()
        view.grab()

    def append() -> None:
        at = len(model.texts)
        model.beginInsertRows(QModelIndex(), at, at)
        model.texts.append("one more")
        model.endInsertRows()
        view.grab()

    back = [milliseconds(prepend) for _ in range(3)]
    appended = [milliseconds(append) for _ in range(3)]
    widths = [milliseconds(lambda w=w: (view.resize(w, SIZE[1]), view.grab())) for w in (700, 900)]  # type: ignore[misc] # bound at once
    return {
        "first open": opened,
        "open": opened,
        "page back": statistics.median(back),
        "page back, worst": max(back),
        "repaint p50": statistics.median(frames),
        "repaint p95": statistics.quantiles(frames, n=20)[-1],
        "new message": statistics.median(appended),
        "new width": statistics.median(widths),
        "memory": used,
    }


if __name__ == "__main__":
    sys.exit(main())
