"""What tests of the desktop share."""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import pytest
from PySide6.QtCore import QCoreApplication, QEvent, Qt
from PySide6.QtWidgets import QApplication

from desktop.ui.theme import Mode, theme
from tests.desktop.engine_client import MemoryKeyring, World
from tests.desktop.fake_relay import FakeRelay
from tests.desktop.fake_relay_server import serving


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The offscreen platform has no window manager and says so for each window and menu."""
    for item in items:
        item.add_marker(pytest.mark.qt_log_ignore("^This plugin does not support ", extend=True))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A fake relay on loopback and a computer without an account."""
    relay = FakeRelay()
    with serving(relay) as server:
        yield World(relay, server.url, tmp_path, MemoryKeyring())


@pytest.fixture(scope="session")
def styled(qapp: QApplication) -> QApplication:
    """The application with its fonts and light colours, for all examples of a property test."""
    theme().install(qapp, Mode.LIGHT)
    return qapp


@pytest.fixture
def ui(styled: QApplication) -> Iterator[QApplication]:
    """The application in light colours; its windows are gone after the test."""
    yield styled
    styled.setLayoutDirection(Qt.LayoutDirection.LeftToRight)
    theme().set_mode(Mode.LIGHT)
    for widget in styled.topLevelWidgets():
        widget.close()
        widget.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
