"""What Postgres's own catalogue must say of a database in which tenants cannot reach each other.

Nothing here is derived from the models or migrations: this is the second opinion on both. Each function
returns the faults it finds, in words; `faults` collects them all.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import psycopg

OWNER: Final = "relay_owner"
APP: Final = "relay_app"
SYSTEM: Final = "relay_system"
LOGIN: Final = "relay"

ROWS: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})
"""All that a role that is not the owner may have. TRUNCATE would pass row-level security by."""
PRIVILEGES: Final = (*sorted(ROWS), "TRUNCATE", "REFERENCES", "TRIGGER")


class Global(NamedTuple):
    """A table that has no tenant: why, and what `relay_app` and `relay_system` may do with it."""

    reason: str
    app: frozenset[str] = frozenset()
    system: frozenset[str] = ROWS


READ: Final = frozenset({"SELECT"})
GLOBAL_TABLES: Final[Mapping[str, Global]] = {
    "public.alembic_version": Global("the schema's version", app=READ, system=READ),
    "public.schema_compat": Global("the oldest release this schema serves", app=READ),
    "public.login": Global("read at sign-in, before the tenant is known"),
    "public.attempt_limit": Global("limits sign-ins of addresses that may belong to nobody"),
    "public.waba_route": Global("leads a webhook to its tenant"),
    "public.number_route": Global("leads a webhook to its tenant"),
    "public.webhook_raw": Global("webhooks as they came; one may concern several tenants"),
    "public.webhook_item": Global("parts of webhooks, some of no tenant that is known"),
    "public.webhook_lane": Global("orders parts of webhooks before they reach a tenant's rows"),
    "jobs.saq_jobs": Global("upkeep that is scheduled, without tenants' data"),
    "jobs.saq_stats": Global("statistics of workers"),
    "jobs.saq_versions": Global("the version of the job queue's tables"),
}
SYSTEM_SEES_EVERY_TENANT: Final[Mapping[str, str]] = {
    "public.tenant": "tenants are listed and found by name from the command line",
    "public.app_user": "a user is looked up at sign-in",
    "public.device_session": "sessions revoked lately are polled for all tenants",
    "public.waba": "secrets of a webhook's address are read before its tenant is named",
    "public.phone_number": "numbers are looked up for webhooks and for sending",
    "public.feed_head": "the doorbell polls the heads of all watched tenants",
    "public.feed": "old entries are looked for across tenants",
    "public.send_queue": "the sender takes turns among all numbers",
    "public.send_attempt": "the reconciler looks for attempts without an end",
    "public.number_pace": "the sender paces all numbers",
    "public.pair_pace": "the sender paces all pairs",
}
"""Other tables of tenants show `relay_system` the one tenant that its transaction named."""
SECURITY_DEFINER_FUNCTIONS: Final[frozenset[str]] = frozenset()

OWN_ROWS: Final = "(tenant_id = (NULLIF(current_setting('app.tenant'::text, true), ''::text))::uuid)"
OURS: Final = "nspname <> 'information_schema' AND nspname !~ '^pg_'"


def faults(connection: psycopg.Connection) -> list[str]:
    """Everything that would let one tenant, or nobody in particular, reach another's rows."""
    return [
        *role_faults(connection),
        *membership_faults(connection),
        *ownership_faults(connection),
        *relation_faults(connection),
        *policy_faults(connection),
        *key_faults(connection),
        *foreign_key_faults(connection),
        *privilege_faults(connection),
        *standing_grant_faults(connection),
        *function_faults(connection),
    ]


class Relation(NamedTuple):
    """`parent` is the table this one is a partition of."""

    oid: int
    name: str
    kind: str
    owner: str
    parent: str | None
    row_security: bool
    forced: bool
    options: Sequence[str]

    @property
    def is_table(self) -> bool:
        return self.kind in "rp"


def relations(connection: psycopg.Connection) -> list[Relation]:
    rows = connection.execute(
        "SELECT c.oid, n.nspname || '.' || c.relname, c.relkind::text, pg_get_userbyid(c.relowner),"
        " (SELECT pn.nspname || '.' || p.relname FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent"
        "  JOIN pg_namespace pn ON pn.oid = p.relnamespace WHERE i.inhrelid = c.oid),"
        " c.relrowsecurity, c.relforcerowsecurity, coalesce(c.reloptions, '{}')"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {OURS} ORDER BY 2"
    )
    return [Relation(*row) for row in rows]


def is_global(relation: Relation) -> bool:
    return (relation.parent or relation.name) in GLOBAL_TABLES


def tenant_tables(connection: psycopg.Connection) -> list[Relation]:
    """Every table that is not known to be without tenants; a new one is one of these until it is declared."""
    return [relation for relation in relations(connection) if relation.is_table and not is_global(relation)]


# --- roles ----------------------------------------------------------------------------------------


def role_faults(connection: psycopg.Connection) -> Iterator[str]:
    rows = connection.execute(
        "SELECT rolname, rolcanlogin, rolinherit, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb,"
        " rolreplication FROM pg_roles WHERE rolname = ANY(%s)",
        [[OWNER, APP, SYSTEM, LOGIN]],
    ).fetchall()
    for missing in {OWNER, APP, SYSTEM, LOGIN} - {row[0] for row in rows}:
        yield f"there is no role {missing}"
    for role, logs_in, inherits, *powers in rows:
        if any(powers):
            yield f"the role {role} is more than an ordinary one"
        if logs_in != (role == LOGIN):
            yield f"the role {role} {'can' if logs_in else 'cannot'} log in"
        if role == LOGIN and inherits:
            yield "the login inherits the rights of its roles"


def membership_faults(connection: psycopg.Connection) -> Iterator[str]:
    """The login may become each of the three roles and has nothing of them before; there are no others."""
    found = {
        (row[0], row[1]): row[2:]
        for row in connection.execute(
            "SELECT pg_get_userbyid(member), pg_get_userbyid(roleid),"
            " inherit_option, set_option, admin_option"
            " FROM pg_auth_members WHERE pg_get_userbyid(member) = ANY(%s)",
            [[OWNER, APP, SYSTEM, LOGIN]],
        )
    }
    expected = {(LOGIN, role): (False, True, False) for role in (OWNER, APP, SYSTEM)}
    for (member, role), options in found.items():
        if expected.get((member, role)) != options:
            yield f"{member} is a member of {role} with (inherit, set, admin) = {options}"
    for member, role in expected.keys() - found.keys():
        yield f"{member} is no member of {role}"


def ownership_faults(connection: psycopg.Connection) -> Iterator[str]:
    """Who owns a table may drop its policies."""
    for role, what in connection.execute(
        "SELECT pg_get_userbyid(refobjid), pg_describe_object(classid, objid, objsubid) FROM pg_shdepend"
        " WHERE deptype = 'o' AND pg_get_userbyid(refobjid) = ANY(%s)"
        " AND dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))",
        [[APP, SYSTEM, LOGIN]],
    ):
        yield f"{role} owns {what}"
    for relation in relations(connection):
        if relation.owner != OWNER:
            yield f"{relation.name} belongs to {relation.owner}"


# --- tables ---------------------------------------------------------------------------------------


def relation_faults(connection: psycopg.Connection) -> Iterator[str]:
    known = relations(connection)
    for name in GLOBAL_TABLES.keys() - {relation.name for relation in known}:
        yield f"{name} is on the list of global tables and does not exist"
    for relation in known:
        if relation.kind in "mf":
            yield f"{relation.name} cannot have row-level security"
        if relation.kind == "v" and not {"security_invoker=true", "security_invoker=on"} & {
            *relation.options
        }:
            yield f"the view {relation.name} reads with its owner's rights, not with its reader's"
        if relation.is_table and not is_global(relation):
            if not relation.row_security:
                yield f"{relation.name} has no row-level security"
            if not relation.forced:
                yield f"{relation.name} does not force row-level security on its owner"
    for (name,) in connection.execute(
        "SELECT ev_class::regclass::text FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class"
        f" JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND {OURS}"
    ):
        yield f"{name} has a rule, which acts with its owner's rights"


def policy_faults(connection: psycopg.Connection) -> Iterator[str]:
    """Exactly two policies each, for all commands: one for each role, on reading and on writing alike."""
    found: dict[str, set[tuple[object, ...]]] = defaultdict(set)
    for name, permissive, roles, command, using, check in connection.execute(
        "SELECT schemaname || '.' || tablename, permissive, roles::text[], cmd, qual, with_check"
        " FROM pg_policies"
    ):
        found[name].add((permissive, tuple(roles), command, using, check))
    for table in tenant_tables(connection):
        system = "true" if table.name in SYSTEM_SEES_EVERY_TENANT else OWN_ROWS
        expected: set[tuple[object, ...]] = {
            ("PERMISSIVE", (APP,), "ALL", OWN_ROWS, OWN_ROWS),
            ("PERMISSIVE", (SYSTEM,), "ALL", system, system),
        }
        policies = found.pop(table.name, set())
        for policy in expected - policies:
            yield f"{table.name} lacks the policy {policy}"
        for policy in policies - expected:
            yield f"{table.name} has another policy {policy}"
    for name in found:
        yield f"{name} has policies, which a global table does not need"
    for name in SYSTEM_SEES_EVERY_TENANT.keys() - {table.name for table in tenant_tables(connection)}:
        yield f"{name} is said to show relay_system every tenant and is no table of tenants"


def key_faults(connection: psycopg.Connection) -> Iterator[str]:
    """The tenant comes first in every key, so a key can neither clash with nor tell of another tenant's."""
    for table in tenant_tables(connection):
        column = connection.execute(
            "SELECT attnum, attnotnull, atttypid::regtype::text FROM pg_attribute"
            " WHERE attrelid = %s AND attname = 'tenant_id' AND NOT attisdropped",
            [table.oid],
        ).fetchone()
        if column is None:
            yield f"{table.name} has no tenant_id and is not on the list of global tables"
            continue
        number, not_null, type_name = column
        if not not_null or type_name != "uuid":
            yield f"{table.name}.tenant_id is {type_name} and may be null: {not not_null}"
        indexes = connection.execute(
            "SELECT indexrelid::regclass::text, indkey[0], indisprimary FROM pg_index"
            " WHERE indrelid = %s AND (indisunique OR indisexclusion)",
            [table.oid],
        ).fetchall()
        if not any(primary for _, _, primary in indexes):
            yield f"{table.name} has no primary key"
        for index, first, _ in indexes:
            if first != number:
                yield f"the unique index {index} of {table.name} does not begin with tenant_id"


def foreign_key_faults(connection: psycopg.Connection) -> Iterator[str]:
    """A row can refer to its own tenant's rows only, wherever it stands."""
    tenants = {table.oid for table in tenant_tables(connection)}
    for name, table, target, target_oid, columns, target_columns in connection.execute(
        "SELECT conname, conrelid::regclass::text, confrelid::regclass::text, confrelid::int8,"
        " (SELECT array_agg(attname::text ORDER BY k.n) FROM unnest(conkey) WITH ORDINALITY AS k (num, n)"
        "  JOIN pg_attribute ON attrelid = conrelid AND attnum = k.num),"
        " (SELECT array_agg(attname::text ORDER BY k.n) FROM unnest(confkey) WITH ORDINALITY AS k (num, n)"
        "  JOIN pg_attribute ON attrelid = confrelid AND attnum = k.num)"
        " FROM pg_constraint WHERE contype = 'f'"
    ):
        leads = columns[0] == target_columns[0] == "tenant_id"
        if target_oid in tenants and not leads:
            yield f"the foreign key {name} leads from {table} to {target} without tenant_id first"


# --- rights ---------------------------------------------------------------------------------------


def privilege_faults(connection: psycopg.Connection) -> Iterator[str]:
    """What each role may do with each relation. Rights of PUBLIC count, since every role has them."""
    held: dict[tuple[int, str], set[str]] = defaultdict(set)
    for oid, role, privilege in connection.execute(
        "SELECT c.oid, role, privilege FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,"
        " unnest(%s::text[]) AS role, unnest(%s::text[]) AS privilege"
        f" WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {OURS} AND CASE"
        " WHEN privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')"
        " THEN has_any_column_privilege(role, c.oid, privilege)"
        " ELSE has_table_privilege(role, c.oid, privilege) END",
        [[APP, SYSTEM, LOGIN], list(PRIVILEGES)],
    ):
        held[oid, role].add(privilege)
    for relation in relations(connection):
        allowed = _allowed(relation)
        for role in (APP, SYSTEM, LOGIN):
            has = held[relation.oid, role]
            if surplus := has - allowed.get(role, frozenset()):
                yield f"{role} may {_listed(surplus)} {relation.name}"
            # Rights on the parent serve for its partitions; a table nobody can use is a mistake too.
            if relation.is_table and (lacking := allowed.get(role, frozenset()) - has):
                yield f"{role} may not {_listed(lacking)} {relation.name}"
    for role, sequence in connection.execute(
        "SELECT role, c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,"
        f" unnest(%s::text[]) AS role WHERE c.relkind = 'S' AND {OURS}"
        " AND has_sequence_privilege(role, c.oid, 'USAGE, SELECT, UPDATE')",
        [[APP, LOGIN]],
    ):
        yield f"{role} may use the sequence {sequence}"


def _allowed(relation: Relation) -> Mapping[str, frozenset[str]]:
    if not relation.is_table:
        return {APP: READ, SYSTEM: READ}
    if relation.parent in GLOBAL_TABLES:
        return {}  # a partition is reached by its parent's name alone
    if relation.name in GLOBAL_TABLES:
        entry = GLOBAL_TABLES[relation.name]
        return {APP: entry.app, SYSTEM: entry.system}
    return {APP: ROWS, SYSTEM: ROWS}


def _listed(privileges: set[str] | frozenset[str]) -> str:
    return ", ".join(sorted(privileges))


def standing_grant_faults(connection: psycopg.Connection) -> Iterator[str]:
    """Rights beyond tables: of the login itself, on schemas and the database, and on tables to come."""
    for (what,) in connection.execute(
        "SELECT pg_describe_object(classid, objid, objsubid) FROM pg_shdepend"
        " WHERE deptype = 'a' AND pg_get_userbyid(refobjid) = %s"
        " AND dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))",
        [LOGIN],
    ):
        yield f"the login has rights of its own on {what}"
    for role, schema in connection.execute(
        "SELECT role, nspname FROM pg_namespace, unnest(%s::text[]) AS role"
        f" WHERE {OURS} AND has_schema_privilege(role, oid, 'CREATE')",
        [[APP, SYSTEM, LOGIN]],
    ):
        yield f"{role} may create objects in the schema {schema}"
    for (schema,) in connection.execute(
        f"SELECT nspname FROM pg_namespace WHERE {OURS} AND nspname <> 'public'"
        " AND has_schema_privilege(%s, oid, 'USAGE')",
        [APP],
    ):
        yield f"{APP} may use the schema {schema}"
    for (role,) in connection.execute(
        "SELECT role FROM unnest(%s::text[]) AS role"
        " WHERE has_database_privilege(role, current_database(), 'CREATE')",
        [[APP, SYSTEM, LOGIN]],
    ):
        yield f"{role} may create schemas"
    for role, acl in connection.execute(
        "SELECT pg_get_userbyid(defaclrole), defaclacl::text FROM pg_default_acl"
    ):
        yield f"what {role} makes comes with rights: {acl}"
    for role, setting in connection.execute(
        "SELECT setrole::regrole::text, setting FROM pg_db_role_setting, unnest(setconfig) AS setting"
        " WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))"
        " AND setting ~ '^(app\\.|role=|row_security=)'"
    ):
        yield f"{role} starts with {setting}"


def function_faults(connection: psycopg.Connection) -> Iterator[str]:
    for (name,) in connection.execute(
        "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
        f" WHERE prosecdef AND {OURS}"
    ):
        if name not in SECURITY_DEFINER_FUNCTIONS:
            yield f"the function {name} acts with its owner's rights"
