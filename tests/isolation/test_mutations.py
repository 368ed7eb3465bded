"""Would the walks notice? Each way of tearing the tenants' walls down must be found by the walk it is for."""

import psycopg
import pytest

from relay.kit.db import Database
from relay.sync import feed
from tests.conftest import TestDatabase, machine_lock
from tests.isolation import catalogue, rows

# What somebody might do to the schema or the roles, and a word of the fault that must be found.
SCHEMA_MUTATIONS = {
    "DROP POLICY message_app ON message": "public.message lacks the policy",
    "ALTER POLICY message_app ON message USING (true)": "public.message has another policy",
    "ALTER POLICY message_system ON message WITH CHECK (true)": "public.message has another policy",
    "ALTER POLICY feed_system ON feed TO relay_system, relay_app": "public.feed has another policy",
    "CREATE POLICY more ON contact FOR SELECT TO PUBLIC USING (true)": "public.contact has another policy",
    "CREATE POLICY all_of_it ON login USING (true)": "public.login has policies",
    "ALTER TABLE conversation DISABLE ROW LEVEL SECURITY": "public.conversation has no row-level security",
    "ALTER TABLE conversation NO FORCE ROW LEVEL SECURITY": "public.conversation does not force",
    "ALTER TABLE message OWNER TO relay_app": "relay_app owns table message",
    "ALTER SCHEMA jobs OWNER TO relay": "relay owns schema jobs",
    "ALTER TABLE message OWNER TO CURRENT_USER": "public.message belongs to",
    "GRANT TRUNCATE ON message TO relay_app": "relay_app may TRUNCATE public.message",
    "GRANT TRIGGER ON message TO relay_system": "relay_system may TRIGGER public.message",
    "GRANT SELECT ON login TO relay_app": "relay_app may SELECT public.login",
    "GRANT UPDATE (email) ON login TO relay_app": "relay_app may UPDATE public.login",
    "GRANT SELECT ON webhook_raw TO PUBLIC": "relay_app may SELECT public.webhook_raw",
    "GRANT SELECT ON webhook_raw_default TO relay_app": "relay_app may SELECT public.webhook_raw_default",
    "GRANT SELECT ON message TO relay": "relay may SELECT public.message",
    "GRANT CREATE ON SCHEMA public TO relay_app": "relay_app may create objects in the schema public",
    "GRANT USAGE ON SCHEMA jobs TO relay_app": "relay_app may use the schema jobs",
    "GRANT USAGE ON SEQUENCE webhook_item_id_seq TO relay_app": "relay_app may use the sequence",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO relay_app": "comes with rights",
    "REVOKE UPDATE ON message FROM relay_app": "relay_app may not UPDATE public.message",
    "CREATE TABLE note (id int PRIMARY KEY)": "public.note has no tenant_id",
    "CREATE TABLE message_old (LIKE message INCLUDING ALL)": "public.message_old has no row-level security",
    "ALTER TABLE contact_identity DROP CONSTRAINT contact_identity_pkey": "has no primary key",
    "CREATE UNIQUE INDEX one_wamid ON message (wamid)": "one_wamid of public.message does not begin with",
    "CREATE UNIQUE INDEX one ON contact ((tenant_id::text), id)": "one of public.contact does not begin with",
    "ALTER TABLE webhook_lane ADD CONSTRAINT lane_tenant FOREIGN KEY (number_id, tenant_id)"
    " REFERENCES phone_number (id, tenant_id)": "lane_tenant leads from webhook_lane to phone_number",
    "CREATE VIEW inbox AS SELECT * FROM message": "the view public.inbox reads with its owner's rights",
    "CREATE MATERIALIZED VIEW inbox AS SELECT * FROM message": "public.inbox cannot have row-level security",
    "CREATE FUNCTION peek() RETURNS bigint LANGUAGE sql SECURITY DEFINER"
    " AS 'SELECT count(*) FROM message'": "the function peek() acts with its owner's rights",
    "CREATE RULE copy AS ON UPDATE TO message DO ALSO DELETE FROM contact": "message has a rule",
}

ROLE_MUTATIONS = {
    "ALTER ROLE relay_app BYPASSRLS": "relay_app is more than an ordinary one",
    "ALTER ROLE relay SUPERUSER": "relay is more than an ordinary one",
    "ALTER ROLE relay_system LOGIN": "relay_system can log in",
    "ALTER ROLE relay INHERIT": "the login inherits",
    "GRANT relay_system TO relay_app": "relay_app is a member of relay_system",
    "GRANT pg_read_all_data TO relay_app": "relay_app is a member of pg_read_all_data",
    "GRANT relay_app TO relay WITH INHERIT TRUE": "relay is a member of relay_app",
    "ALTER ROLE relay SET app.tenant = '00000000-0000-0000-0000-000000000000'": "relay starts with",
}


@pytest.mark.parametrize("mutation", SCHEMA_MUTATIONS)
def test_the_catalogue_tells_of(mutation: str, relay_database: TestDatabase) -> None:
    found = _faults_after(mutation, relay_database)
    assert [fault for fault in found if SCHEMA_MUTATIONS[mutation] in fault], found


@pytest.mark.parametrize("mutation", ROLE_MUTATIONS)
def test_the_roles_tell_of(mutation: str, relay_database: TestDatabase) -> None:
    with machine_lock():  # the roles are the server's, which other test runs mend when they start
        found = _faults_after(mutation, relay_database)
    assert [fault for fault in found if ROLE_MUTATIONS[mutation] in fault], found


def _faults_after(mutation: str, database: TestDatabase) -> list[str]:
    with psycopg.connect(database.superuser_dsn) as connection:
        connection.execute(mutation)
        found = catalogue.faults(connection)
        connection.rollback()
    return found


# The same for the walk over rows: what is done to a table, and whom it opens it to.
ROW_MUTATIONS = {
    "ALTER TABLE conversation DISABLE ROW LEVEL SECURITY": "conversation: deletes 1 rows",
    "ALTER POLICY message_app ON message USING (true)": "message: sees 2 rows",
    "ALTER POLICY contact_app ON contact WITH CHECK (true)": "contact: may insert a row of the other tenant",
    "CREATE POLICY more ON send_queue FOR SELECT TO relay_app USING (true)": "send_queue: sees 2 rows",
    "CREATE POLICY more ON feed FOR INSERT TO relay_app WITH CHECK (true)": "feed: may insert a row",
    "DROP POLICY waba_app ON waba": "waba: sees 0 rows",
}


@pytest.mark.parametrize("mutation", ROW_MUTATIONS)
async def test_the_rows_tell_of(mutation: str, fresh_database: TestDatabase) -> None:
    expected = ROW_MUTATIONS[mutation]
    found = await _leaks_after(mutation, fresh_database)
    assert [leak for leak in found if leak.startswith(expected)], found


async def test_the_rows_tell_of_system_work_that_sees_too_much(fresh_database: TestDatabase) -> None:
    found = await _leaks_after("ALTER POLICY message_system ON message USING (true)", fresh_database)
    assert "message: sees 2 rows, not 1" in found


async def _leaks_after(mutation: str, scratch: TestDatabase) -> list[str]:
    rows.fill(scratch)
    with psycopg.connect(scratch.superuser_dsn) as connection:
        connection.execute(mutation)
    database = Database(scratch.dsn, application_name="test", append_feed=feed.append, ring=lambda *_: None)
    table = [table for table in rows.ROWS if table in mutation.split()]
    try:
        return [
            *await rows.leaks_to_tenant(database, table),
            *await rows.leaks_to_system_for_tenant(database, table),
        ]
    finally:
        await database.close()
