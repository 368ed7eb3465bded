"""A tenant to send for."""

import pytest

from relay.kit.db import Database
from tests.conftest import TenantFixture
from tests.relay.outbound.house import House


@pytest.fixture
def house(database: Database, tenant: TenantFixture) -> House:
    """A tenant with one number that may send 80 a second, and no conversations yet."""
    return House.of(database, tenant)
