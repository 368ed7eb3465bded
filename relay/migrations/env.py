"""Alembic's entry point: `relay.migrate` hands it a connection that is in a transaction as `relay_owner`."""

from alembic import context

from relay.migrations.tables import include_name, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    include_name=include_name,
    compare_type=True,
    compare_server_default=True,
)
# `relay.migrate` owns the transaction: one for all revisions, under an advisory lock.
context.run_migrations()
