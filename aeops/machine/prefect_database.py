"""`python -m aeops.machine.prefect_database`: bring Prefect's database up to date.

Prefect's migrations hand some 34,000 statements from one thread to another and wait for each, which takes 14 to 27 s of a fresh
SQLite database. Here a fresh one gets the same migrations of the installed Prefect on one connection of one thread, in memory,
in 3 s, and is copied to its file in a single transaction. Every other database is left to Prefect's own way.
"""

import asyncio
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlalchemy as sa
    from prefect.server.database import PrefectDBInterface

_EXPRESSION_INDEX = "Skipped unsupported reflection of expression-based index"  # Prefect ignores this warning, too


def create_if_new() -> bool:
    """Create the tables of the database that Prefect's settings name, where it is an SQLite file without tables.

    Its caller keeps other processes from doing so at the same time. A process that is killed leaves the database without tables.

    Returns:
        True if they were created: the database is as Prefect's own migrations would have made it.
    """
    import sqlalchemy as sa
    from prefect.server.database import provide_database_interface

    interface = provide_database_interface()
    address = sa.make_url(interface.database_config.connection_url)
    if address.get_backend_name() != "sqlite" or interface.database_config.is_inmemory():
        return False
    file_engine = sa.create_engine(address.set(drivername="sqlite+pysqlite"), poolclass=sa.NullPool)
    with closing(file_engine.raw_connection()) as pooled:
        connection = pooled.driver_connection
        assert isinstance(connection, sqlite3.Connection)
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
            return False
        with _migrated_memory(interface) as migrated:
            migrated.backup(connection)
        connection.execute("PRAGMA journal_mode=wal")  # as Prefect does where it opens the file first
    return True


@contextmanager
def _migrated_memory(interface: "PrefectDBInterface") -> Iterator[sqlite3.Connection]:
    """Apply all of Prefect's migrations to a database in memory, with the settings that its `_migrations/env.py` has."""
    import sqlalchemy as sa
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from prefect.server.database.alembic_commands import alembic_config
    from prefect.server.database.configurations import SQLITE_BEGIN_MODE

    scripts = ScriptDirectory.from_config(alembic_config())
    scripts.version_locations = [str(interface.orm.versions_dir)]
    engine = _memory_engine(interface)

    def newest(revision: Any, _context: Any) -> Any:
        return scripts._upgrade_revs("head", revision)

    token = SQLITE_BEGIN_MODE.set("IMMEDIATE")
    try:
        with (
            engine.connect() as connection,
            EnvironmentContext(alembic_config(), scripts, fn=newest) as context,
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", message=_EXPRESSION_INDEX, category=sa.exc.SAWarning)
            context.configure(
                connection=connection,
                target_metadata=interface.Base.metadata,
                include_schemas=True,
                render_as_batch=True,
                transaction_per_migration=True,
                template_args={"dialect": "sqlite"},
            )
            _set_foreign_keys(connection, "OFF")
            with context.begin_transaction():
                context.run_migrations()
            connection.commit()
            migrated = connection.connection.driver_connection
            assert isinstance(migrated, sqlite3.Connection)
            yield migrated
    finally:
        SQLITE_BEGIN_MODE.reset(token)
        engine.dispose()


def _memory_engine(interface: "PrefectDBInterface") -> "sa.Engine":
    """Return an engine of a database in memory, whose connection has the settings of Prefect's."""
    import sqlalchemy as sa

    configuration: Any = interface.database_config
    engine = sa.create_engine("sqlite://", paramstyle="named", poolclass=sa.StaticPool)

    def set_up(connection: sqlite3.Connection, record: Any) -> None:
        connection.isolation_level = None  # else Python begins and commits of itself
        configuration.setup_sqlite(connection, record)

    sa.event.listen(engine, "connect", set_up)
    sa.event.listen(engine, "begin", configuration.begin_sqlite_stmt)
    return engine


def _set_foreign_keys(connection: "sa.Connection", value: str) -> None:
    """Set whether SQLite enforces foreign keys, which it does outside a transaction alone."""
    connection.exec_driver_sql("COMMIT")
    connection.exec_driver_sql(f"PRAGMA foreign_keys={value}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def main() -> None:
    """Create the database, or upgrade it; unlike a stage it goes on to its end where its parent dies."""
    from prefect.server.database import provide_database_interface

    if not create_if_new():
        asyncio.run(provide_database_interface().create_db())


if __name__ == "__main__":
    main()
