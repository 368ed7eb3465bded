"""The tables of SAQ, the job queue, in a schema of their own: as its version 0.26 makes them.

SAQ would make them itself at its first start, but a worker has no right to, and several that start together
go on before the tables are there.
"""

from typing import Final

from alembic import op

from relay.kit.schema import SYSTEM

revision: Final = "0002"
down_revision: Final = "0001"


def upgrade() -> None:
    op.execute("CREATE SCHEMA jobs")
    op.execute("""
        CREATE TABLE jobs.saq_jobs (
            key text PRIMARY KEY,
            lock_key serial NOT NULL,
            job bytea NOT NULL,
            queue text NOT NULL,
            status text NOT NULL,
            priority smallint NOT NULL DEFAULT 0,
            group_key text,
            scheduled bigint NOT NULL DEFAULT extract(epoch FROM now()),
            expire_at bigint
        )
    """)
    op.execute("CREATE INDEX saq_jobs_status_queue_group_key_idx ON jobs.saq_jobs (status, queue, group_key)")
    op.execute(
        "CREATE INDEX saq_jobs_status_queue_priority_scheduled_idx"
        " ON jobs.saq_jobs (status, queue, priority, scheduled)"
    )
    op.execute("""
        CREATE TABLE jobs.saq_stats (
            worker_id text PRIMARY KEY,
            stats jsonb,
            expire_at bigint,
            metadata jsonb,
            queue_key text
        )
    """)
    op.execute("CREATE INDEX saq_stats_expire_at_idx ON jobs.saq_stats (expire_at)")
    op.execute("CREATE INDEX saq_stats_queue_key_idx ON jobs.saq_stats (queue_key)")
    op.execute("CREATE TABLE jobs.saq_versions (version int)")
    op.execute("INSERT INTO jobs.saq_versions (version) VALUES (3)")
    op.execute(f"GRANT USAGE ON SCHEMA jobs TO {SYSTEM}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA jobs TO {SYSTEM}")
    op.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA jobs TO {SYSTEM}")
