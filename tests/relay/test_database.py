"""The unit of work on a real database."""

import pytest
from sqlalchemy import text

from relay.kit.db import Database
from tests.conftest import TenantFixture


async def test_a_transaction_has_its_role_and_tenant_and_nothing_outside(
    database: Database, tenant: TenantFixture
) -> None:
    query = text("SELECT current_user, session_user, current_setting('app.tenant', true)")
    async with database.tenant(tenant.id) as work:
        assert (await work.execute(query)).one() == ("relay_app", "relay", str(tenant.id))
    async with database.system() as work:
        assert (await work.execute(query)).one() == ("relay_system", "relay", "")
    async with database.engine.connect() as connection:
        assert (await connection.execute(query)).one() == ("relay", "relay", "")
        with pytest.raises(Exception, match="permission denied"):
            await connection.execute(text("SELECT * FROM tenant"))
