"""How tables are declared: tenant first in every key, and which role may see what.

Three roles share the database. `relay_owner` owns the schema and migrates. `relay_app` serves one tenant
per transaction. `relay_system` is for the few modules that work across tenants: splitter, lanes, sender,
sign-in. None of them bypasses row-level security, which is forced on every tenant table.
"""

from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Column, Integer, MetaData, PrimaryKeyConstraint, Table, Uuid
from sqlalchemy.schema import SchemaItem

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)

OWNER = "relay_owner"
APP = "relay_app"
SYSTEM = "relay_system"
TENANT_SETTING = "app.tenant"

SystemAccess = Literal["every_tenant", "one_tenant"]


def uuid_column(name: str, *args: SchemaItem, **kwargs: Any) -> Column[UUID]:
    """A UUID column, read and written as `uuid.UUID`; not nullable unless asked for."""
    kwargs.setdefault("nullable", False)
    return Column(name, Uuid(), *args, **kwargs)


def tenant_table(
    name: str,
    *items: SchemaItem,
    primary_key: tuple[str, ...] = ("id",),
    system: SystemAccess = "one_tenant",
) -> Table:
    """A table of tenants' data: `tenant_id` comes first in its primary key and row-level security is forced.

    `system` says what `relay_system` sees: only the tenant its transaction has named, like `relay_app`
    ("one_tenant"), or every tenant ("every_tenant": queues, and rows found before the tenant is known).
    """
    return Table(
        name,
        metadata,
        uuid_column("tenant_id"),
        *items,
        PrimaryKeyConstraint("tenant_id", *primary_key),
        info={"tenant": True, "system": system},
    )


def global_table(name: str, *items: SchemaItem, app_may_read: bool = False, **kwargs: Any) -> Table:
    """A table without tenants (routing, raw webhooks). Only `relay_system` uses it, unless `app_may_read`."""
    return Table(name, metadata, *items, info={"tenant": False, "app_may_read": app_may_read}, **kwargs)


# One row: the oldest release that may still run on this schema, by the number of its newest migration.
schema_compat = global_table(
    "schema_compat",
    Column("oldest_revision", Integer, primary_key=True, autoincrement=False),
    app_may_read=True,
)


def protection(table: Table) -> list[str]:
    """The statements that give a table its grants and, for tenants' data, its two policies."""
    name = table.name
    if not table.info["tenant"]:
        grants = [f"GRANT SELECT, INSERT, UPDATE, DELETE ON {name} TO {SYSTEM}"]
        if table.info["app_may_read"]:
            grants.append(f"GRANT SELECT ON {name} TO {APP}")
        return grants
    # A setting that was set locally reads back as '' after its transaction, hence nullif.
    own = f"tenant_id = nullif(current_setting('{TENANT_SETTING}', true), '')::uuid"
    system = "true" if table.info["system"] == "every_tenant" else own
    return [
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {name} TO {APP}, {SYSTEM}",
        f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY",
        f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY",
        f"CREATE POLICY {name}_app ON {name} TO {APP} USING ({own}) WITH CHECK ({own})",
        f"CREATE POLICY {name}_system ON {name} TO {SYSTEM} USING ({system}) WITH CHECK ({system})",
    ]
