"""The schema itself keeps tenants apart: read from the catalogue, whatever the models say."""

from collections.abc import Iterator

import psycopg
import pytest

from relay.kit.schema import metadata
from tests.conftest import TestDatabase

# Tables without tenants: routing, raw webhooks, sign-in, and the schema's own.
GLOBAL = {
    "alembic_version",
    "attempt_limit",
    "login",
    "number_route",
    "schema_compat",
    "waba_route",
    "webhook_item",
    "webhook_raw",
}
READABLE_BY_APP = {"alembic_version", "schema_compat"}


@pytest.fixture
def catalogue(worker_database: TestDatabase) -> Iterator[psycopg.Connection]:
    with psycopg.connect(worker_database.superuser_dsn) as connection:
        yield connection


def rows(catalogue: psycopg.Connection, query: str) -> list[tuple[object, ...]]:
    return list(catalogue.execute(query))  # type: ignore[call-overload]  # constant strings of this file


TABLES = """
    SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity, pg_get_userbyid(c.relowner), c.oid
    FROM pg_class AS c WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
        AND NOT c.relispartition
"""


def tenant_tables(catalogue: psycopg.Connection) -> set[str]:
    return {str(name) for name, *_ in rows(catalogue, TABLES)} - GLOBAL


def test_the_list_of_global_tables_is_exact(catalogue: psycopg.Connection) -> None:
    assert tenant_tables(catalogue) == {t.name for t in metadata.tables.values() if t.info["tenant"]}
    assert GLOBAL - {"alembic_version"} == {t.name for t in metadata.tables.values() if not t.info["tenant"]}


def test_every_table_belongs_to_the_owner_and_to_nobody_else(catalogue: psycopg.Connection) -> None:
    owners = rows(
        catalogue,
        "SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE n.nspname IN ('public', 'jobs') AND pg_get_userbyid(c.relowner) <> 'relay_owner'",
    )
    assert owners == []


def test_row_security_is_enabled_and_forced(catalogue: psycopg.Connection) -> None:
    for name, enabled, forced, *_ in rows(catalogue, TABLES):
        if name not in GLOBAL:
            assert enabled, f"{name}: row-level security is off"
            assert forced, f"{name}: row-level security is not forced on the owner"


def test_each_tenant_table_has_its_two_policies_with_both_halves(catalogue: psycopg.Connection) -> None:
    found = {
        (table, policy): (roles, command, using, check)
        for table, policy, roles, command, using, check in rows(
            catalogue, "SELECT tablename, policyname, roles, cmd, qual, with_check FROM pg_policies"
        )
    }
    tables = tenant_tables(catalogue)
    assert found.keys() == {(t, f"{t}_{role}") for t in tables for role in ("app", "system")}
    own = "(tenant_id = (NULLIF(current_setting('app.tenant'::text, true), ''::text))::uuid)"
    for table in tables:
        assert found[table, f"{table}_app"] == (["relay_app"], "ALL", own, own), table
        roles, command, using, check = found[table, f"{table}_system"]
        everyone = metadata.tables[table].info["system"] == "every_tenant"
        assert (roles, command) == (["relay_system"], "ALL")
        assert using == check == ("true" if everyone else own), table


def test_the_tenant_comes_first_in_every_key(catalogue: psycopg.Connection) -> None:
    tables = tenant_tables(catalogue)
    keys = rows(
        catalogue,
        """
        SELECT c.relname, i.relname, x.indisprimary,
            (SELECT a.attname FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum = x.indkey[0]),
            (SELECT a.attnotnull FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id')
        FROM pg_index AS x JOIN pg_class AS c ON c.oid = x.indrelid JOIN pg_class AS i ON i.oid = x.indexrelid
        WHERE x.indisunique AND c.relnamespace = 'public'::regnamespace
        """,
    )
    for table, index, _, first, not_null in keys:
        if table in tables:
            assert first == "tenant_id", f"{table}: {index} does not start with tenant_id"
            assert not_null, f"{table}: tenant_id may be null"
    assert {table for table, _, primary, *_ in keys if primary} >= tables


def test_every_reference_to_tenants_data_names_the_tenant(catalogue: psycopg.Connection) -> None:
    tables = tenant_tables(catalogue)
    references = rows(
        catalogue,
        """
        SELECT k.conname, c.relname, f.relname,
            (SELECT array_agg(a.attname::text) FROM pg_attribute AS a
                WHERE a.attrelid = k.conrelid AND a.attnum = k.conkey[1])
        FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid JOIN pg_class AS f ON f.oid = k.confrelid
        WHERE k.contype = 'f' AND k.connamespace = 'public'::regnamespace
        """,
    )
    assert references
    for name, _, target, first in references:
        if target in tables:
            assert first == ["tenant_id"], f"{name} could point into another tenant"


def test_the_app_role_reads_no_global_table_it_need_not(catalogue: psycopg.Connection) -> None:
    granted = rows(
        catalogue,
        """
        SELECT DISTINCT c.relname, p.privilege_type
        FROM pg_class AS c, aclexplode(c.relacl) AS p
        WHERE c.relkind IN ('r', 'p') AND c.relnamespace IN ('public'::regnamespace, 'jobs'::regnamespace)
            AND p.grantee IN (0, 'relay_app'::regrole)
        """,
    )
    may = {(str(table), str(privilege)) for table, privilege in granted}
    others = {(table, privilege) for table, privilege in may if table not in tenant_tables(catalogue)}
    assert others == {(table, "SELECT") for table in READABLE_BY_APP}


def test_nothing_runs_with_anothers_rights(catalogue: psycopg.Connection) -> None:
    definers = rows(
        catalogue,
        "SELECT proname FROM pg_proc WHERE prosecdef"
        " AND pronamespace IN ('public'::regnamespace, 'jobs'::regnamespace)",
    )
    assert definers == []
    views = rows(
        catalogue,
        "SELECT relname FROM pg_class WHERE relkind IN ('v', 'm') AND relnamespace = 'public'::regnamespace"
        " AND NOT coalesce(reloptions @> ARRAY['security_invoker=true'], false)",
    )
    assert views == []


def test_no_role_of_ours_bypasses_the_rules(catalogue: psycopg.Connection) -> None:
    found = rows(
        catalogue,
        "SELECT rolname FROM pg_roles WHERE rolname LIKE 'relay%' AND (rolsuper OR rolbypassrls)",
    )
    assert found == []
