"""Prefect's SQLite database as the project creates it, on one connection."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from prefect.server.database import provide_database_interface
from prefect.server.database.alembic_commands import alembic_config
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, temporary_settings

from aeops.machine.prefect_database import create_if_new


def create(file: Path) -> bool:
    with temporary_settings({PREFECT_API_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{file}"}):
        return create_if_new()


def test_a_fresh_database_has_the_newest_tables_of_the_installed_prefect(empty_prefect_database: Path) -> None:
    scripts = ScriptDirectory.from_config(alembic_config())
    with temporary_settings({PREFECT_API_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{empty_prefect_database}"}):
        interface = provide_database_interface()
        scripts.version_locations = [str(interface.orm.versions_dir)]
        expected = {}
        for table in interface.Base.metadata.sorted_tables:
            expected[table.name] = {column.name for column in table.columns}
    with closing(sqlite3.connect(empty_prefect_database)) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [(scripts.get_current_head(),)]
        found = {}
        for name in expected:
            found[name] = {row[1] for row in database.execute(f"PRAGMA table_xinfo({name})")}
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert len(expected) > 20
    for name, columns in expected.items():
        assert columns <= found[name], name


def test_a_database_with_tables_is_left_to_prefect(empty_prefect_database: Path, tmp_path: Path) -> None:
    file = tmp_path / "prefect.db"
    shutil.copy(empty_prefect_database, file)
    with closing(sqlite3.connect(file)) as database:
        database.execute("UPDATE alembic_version SET version_num = 'older'")
        database.commit()
    content = file.read_bytes()
    assert not create(file)
    assert file.read_bytes() == content


def test_a_database_elsewhere_is_left_to_prefect() -> None:
    for address in ("postgresql+asyncpg://127.0.0.1:9/prefect", "sqlite+aiosqlite:///:memory:"):
        with temporary_settings({PREFECT_API_DATABASE_CONNECTION_URL: address}):
            assert not create_if_new()


@pytest.mark.long  # Prefect's own way takes some 15 s
def test_it_is_the_database_of_prefects_own_migrations(empty_prefect_database: Path, tmp_path: Path) -> None:
    file = tmp_path / "prefect.db"
    settings = {"PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{file}", "PREFECT_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
    subprocess.run(command, env=os.environ | settings, check=True, capture_output=True)
    assert sorted_dump(empty_prefect_database) == sorted_dump(file)


def sorted_dump(file: Path) -> list[str]:
    """Return the lines that make a database; SQLAlchemy writes a table's constraints in an order that differs from run to run."""
    lines = []
    with closing(sqlite3.connect(file)) as database:
        for statement in database.iterdump():
            lines.extend(line.strip().removesuffix(",") for line in statement.splitlines())
    return sorted(lines)
