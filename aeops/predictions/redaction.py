"""Takes some samples out of the recorded predictions: their names, hashes, means and codes; the rows and their scores stay."""

from collections.abc import Collection
from pathlib import Path

from aeops.errors import InfrastructureError
from aeops.predictions.day_files import delete_joined_files
from aeops.predictions.journal_roller import roll_journals
from aeops.predictions.prediction_store import JOURNAL, read_call, write_call
from aeops.predictions.recorded_files import predictions_folder, read_metadata
from aeops.project import Project

FORGOTTEN = "(forgotten)"  # in place of a sample's name
CLEARED = ("mean", "std", "code", "values")


def require_no_open_journal(project: Project, recipe: str) -> None:
    """Require that no service writes predictions of the recipe; closed journals become files.

    Raises:
        InfrastructureError: one does.
    """
    roll_journals(project, recipe)
    journals = sorted((predictions_folder(project, recipe) / JOURNAL).glob("*.arrow"))
    if journals:
        raise InfrastructureError(
            f"a service of {recipe} writes its predictions to {journals[0]}: nothing was deleted. Stop it (`ae down`, or end `ae "
            "serve`), then type the same command again"
        )


def redact_predictions(project: Project, recipe: str, ids: Collection[str], contents: Collection[str]) -> int:
    """Take the samples out of a recipe's predictions; return the number of rows.

    Args:
        project: whose predictions they are.
        recipe: its name.
        ids: names under which they were scored.
        contents: SHA-256 of their contents.
    """
    delete_joined_files(project, recipe)
    return sum(_redact_file(file, ids, contents) for file in sorted(predictions_folder(project, recipe).glob("*/*.parquet")))


def _redact_file(file: Path, ids: Collection[str], contents: Collection[str]) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc

    table = read_call(file)
    named = pc.is_in(table["sample"], value_set=pa.array(list(ids), pa.string()))
    hit = pc.or_(named, pc.is_in(table["sample_sha256"], value_set=pa.array(list(contents), pa.string())))
    count = int(pc.sum(hit).as_py() or 0)
    if not count:
        return 0
    replacements = {"sample": FORGOTTEN, "sample_sha256": "", **dict.fromkeys(CLEARED)}
    for name, value in replacements.items():
        column = table[name]
        replaced = pc.if_else(hit, pa.scalar(value, column.type), column)
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), replaced)
    write_call(file, table.combine_chunks().to_batches(), read_metadata(file))
    return count
