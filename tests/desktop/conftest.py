"""What tests of the desktop share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.desktop.engine_client import MemoryKeyring, World
from tests.desktop.fake_relay import FakeRelay
from tests.desktop.fake_relay_server import serving


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A fake relay on loopback and a computer without an account."""
    relay = FakeRelay()
    with serving(relay) as server:
        yield World(relay, server.url, tmp_path, MemoryKeyring())
