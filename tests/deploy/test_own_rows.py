"""A table and a query of a real PostgreSQL become samples; the password comes from the environment and stands nowhere."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from intake_project import make_project
from real_servers import Cluster

pytestmark = pytest.mark.long


def test_rows_of_postgresql_are_read_by_a_transaction_that_cannot_write(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path / "project", monkeypatch)
    password = (cluster.secrets / "postgres-password").read_text(encoding="utf-8").strip()
    monkeypatch.setenv("PGPASSWORD", password)
    address = f"postgresql+pg8000://postgres@127.0.0.1:{cluster.port}/postgres"
    draw = np.random.default_rng(0)
    rows = pd.DataFrame({"part_id": [f"p{number}" for number in range(300)], "length": draw.normal(50, 2, 300)})
    rows["made"] = pd.Timestamp("2026-01-01", tz="Asia/Tokyo") + pd.to_timedelta(draw.integers(0, 9000, 300), unit="h")
    rows["state"] = np.where(np.arange(300) % 10 == 0, "bad", "good")
    engine = sa.create_engine(sa.make_url(address).set(password=password))
    rows.to_sql("parts", engine, index=False)
    with engine.begin() as connection:
        connection.execute(sa.text("alter table parts add column price numeric(10, 2) default 12.50"))
        connection.execute(sa.text("update parts set price = length"))
    code, printed, errors = project.new("parts", address, "--yes")
    assert (code, errors) == (0, "")
    assert "300 rows of 5 columns" in printed
    types = {column.name: column.type for column in project.recipe("parts").fit.input.columns}
    assert types == {"length": "number", "made": "date", "price": "number"}
    samples = project.samples("parts")
    assert samples.ids is not None
    assert sorted(samples.ids) == sorted(rows["part_id"])
    code, _, errors = project.new("gone", address, "--yes", "--query", "delete from parts returning *")
    assert code == 3
    assert "read-only transaction" in errors
    with engine.connect() as connection:
        assert connection.execute(sa.text("select count(*) from parts")).scalar() == 300
    engine.dispose()
    monkeypatch.setenv("PGPASSWORD", "wrong")
    code, _, errors = project.new("locked", address, "--yes", "--table", "parts")
    assert code != 0
    written = [path.read_bytes() for path in project.root.rglob("*") if path.is_file()]
    assert not any(password.encode() in content for content in written)
    assert password not in printed + errors
