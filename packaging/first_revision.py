"""Write relay/migrations/versions/0001_first.py from the models. Goes away with the first release."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, make_url

from relay.kit.embedded_postgres import EmbeddedPostgres
from relay.migrations.tables import include_name, metadata

TARGET = Path("relay/migrations/versions/0001_first.py")
HEADER = '''"""The first schema."""

from datetime import timedelta
from typing import Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from relay.kit import clock
from relay.kit.schema import APP, SYSTEM, TENANT_SETTING

revision: Final = "0001"
down_revision: Final = None

# This tenant's rows. A setting that was set locally reads back as '' after its transaction, hence nullif.
OWN: Final = f"tenant_id = nullif(current_setting('{TENANT_SETTING}', true), '')::uuid"

'''
MIDDLE = '''
# Tables of tenants' data, and what relay_system sees of each.
TENANT_TABLES: Final = {
%(tenant)s}
GLOBAL_TABLES: Final = (%(global)s)
"""Used by relay_system alone."""
READABLE_GLOBAL_TABLES: Final = (%(readable)s)
"""Of those, the ones relay_app may read."""


def upgrade() -> None:
    _create_tables()
    for table, every_tenant in TENANT_TABLES.items():
        system = "true" if every_tenant else OWN
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {APP}, {SYSTEM}")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY {table}_app ON {table} TO {APP} USING ({OWN}) WITH CHECK ({OWN})")
        op.execute(
            f"CREATE POLICY {table}_system ON {table} TO {SYSTEM} USING ({system}) WITH CHECK ({system})"
        )
    for table in GLOBAL_TABLES:
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {SYSTEM}")
    for table in READABLE_GLOBAL_TABLES:
        op.execute(f"GRANT SELECT ON {table} TO {APP}")
    op.execute(f"GRANT SELECT ON alembic_version TO {APP}, {SYSTEM}")
    op.execute("INSERT INTO schema_compat (oldest_revision) VALUES (1)")
    # A day without a partition of its own goes to the default one, so that no webhook is ever refused.
    op.execute("CREATE TABLE webhook_raw_default PARTITION OF webhook_raw DEFAULT")
    today = clock.now().date()
    for day in (today + timedelta(days=n) for n in range(4)):
        op.execute(
            f"CREATE TABLE webhook_raw_{day:%%Y%%m%%d} PARTITION OF webhook_raw"
            f" FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
        )


def _create_tables() -> None:
'''


def main() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o711)
        with EmbeddedPostgres.start(Path(folder)) as server:
            url = make_url(server.superuser_dsn()).set(drivername="postgresql+psycopg")
            with create_engine(url).connect() as connection:
                context = MigrationContext.configure(
                    connection, opts={"include_name": include_name, "target_metadata": metadata}
                )
                script = produce_migrations(context, metadata)
    if script.upgrade_ops is None:
        raise RuntimeError("autogenerate found nothing")
    body = render_python_code(script.upgrade_ops)
    body = "\n".join(line for line in body.splitlines() if not line.strip().startswith("#"))
    body = body.replace("JSONB(astext_type=Text())", "JSONB()")
    body = re.sub(r"^ *info=\{.*\},?\n|, *info=\{[^}]*\}|^ *info=\{[^}]*\},?$", "", body, flags=re.MULTILINE)
    tables = metadata.sorted_tables
    tenant = "".join(
        f"    {t.name!r}: {t.info['system'] == 'every_tenant'},\n" for t in tables if t.info["tenant"]
    )
    names = {
        "tenant": tenant.replace("'", '"'),
        "global": ", ".join(f'"{t.name}"' for t in tables if not t.info["tenant"]) + ",",
        "readable": ", ".join(
            f'"{t.name}"' for t in tables if not t.info["tenant"] and t.info["app_may_read"]
        )
        + ",",
    }
    TARGET.write_text(HEADER + MIDDLE % names + "    " + body.lstrip() + "\n")
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", str(TARGET)], check=True)


if __name__ == "__main__":
    main()
