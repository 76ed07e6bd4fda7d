"""Finds out what a path holds, and who proposes a recipe for it."""

from dataclasses import replace
from pathlib import Path

from aeops.data.sources.image_files import ImageFolder, list_images
from aeops.errors import DataError, UsageError
from aeops.intake.proposal import Choices, Proposal
from aeops.intake.refusals import refusal_of
from aeops.intake.texts import is_json_lines, propose_texts
from aeops.intake.wording import format_reasons
from aeops.kinds.image_names import IMAGE_SUFFIXES
from aeops.project import Project
from aeops.recipe.addresses import address_errors, is_address, is_database_address
from aeops.recipe.table_sources import table_format

TABLES = ".csv, .tsv, .txt, also .gz or .zip; .parquet, .feather, .arrow, .xlsx, .sqlite"
TAKEN = f"a folder of images, tables ({TABLES}; one file or a folder), texts (.jsonl, .txt) or arrays (.npy, .npz, IDX)"


def propose(origin: str, project: Project, dataset: str, choices: Choices) -> Proposal:
    """Look at what lies at `origin` and propose a recipe.

    Args:
        origin: a path or an address, as a person typed it.
        project: that the recipe will belong to.
        dataset: its name in the recipe.
        choices: what the person said by options.

    Raises:
        UsageError: there is nothing, or an option does not fit.
        DataError: what is there cannot be taken in, and what to convert it to.
    """
    root = project.root
    if is_address(origin):
        return _propose_address(origin, project, dataset, choices)
    path = Path(origin).expanduser()
    try:
        exists = path.exists()
    except OSError as error:
        raise UsageError(f"{origin} cannot be looked at ({error.strerror}): expected a path to your data") from error
    if not exists:
        raise UsageError(f"no file or folder {origin}: expected {TAKEN}")
    if path.is_dir():
        return _propose_folder(path, root, dataset, choices)
    if not path.is_file():
        raise DataError(f"{origin} is no regular file: expected {TAKEN}")
    return _propose_file(path, root, dataset, choices)


def _propose_address(address: str, project: Project, dataset: str, choices: Choices) -> Proposal:
    """Fetch what lies at an address, and propose a recipe that names the address."""
    if errors := address_errors(address):
        raise UsageError("\n".join(errors).replace("path:", "--from:"))
    from aeops.data.sources.remote import fetch_address, only_table
    from aeops.intake.tables import propose_table

    choices = replace(choices, address=address)
    if is_database_address(address) and choices.table is None and choices.query is None:
        choices = replace(choices, table=only_table(address))
    path = fetch_address(address, project.home, choices.table, choices.query)
    if is_database_address(address):
        return propose_table(path, project.root, dataset, choices)
    if path.is_dir():
        return _propose_folder(path, project.root, dataset, choices)
    return _propose_file(path, project.root, dataset, choices)


def _propose_file(path: Path, root: Path, dataset: str, choices: Choices) -> Proposal:
    try:
        size = path.stat().st_size
        path.open("rb").close()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): make it readable") from error
    if not size:
        raise DataError(f"{path}: the file is empty")
    if is_json_lines(path) or (choices.text is not None and table_format(path.name) is not None):
        return _propose_text_column(path, root, dataset, choices)
    if path.name.lower().endswith(".txt") and not _is_table(path):
        return propose_texts(path, root, dataset, choices)
    if path.suffix.lower() in (".npy", ".npz"):
        from aeops.intake.arrays import propose_arrays

        return propose_arrays(path, root, dataset, choices)
    if table_format(path.name) in ("text", "arrow", "workbook", "database"):
        from aeops.intake.tables import propose_table

        return propose_table(path, root, dataset, choices)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise UsageError(f"{path} is one image: name the folder of all, --from {path.parent}")
    raise DataError(refusal_of(path) or f"{path}: nothing is known of this kind of file: expected {TAKEN}")


def _propose_text_column(path: Path, root: Path, dataset: str, choices: Choices) -> Proposal:
    """Propose texts of JSON objects, or of a column of a file of rows."""
    dialect = None
    if table_format(path.name) == "text":
        from aeops.data.sources.table_text import unpack
        from aeops.intake.text_dialect import find_dialect

        dialect, _ = find_dialect(unpack(path))
    return propose_texts(path, root, dataset, choices, dialect)


def _is_table(path: Path) -> bool:
    """Return whether a text file without a telling name holds rows: lines with the same number of cells, more than one."""
    from aeops.intake.text_dialect import find_dialect, has_columns

    content = path.read_bytes()
    try:
        dialect, _ = find_dialect(content)
    except DataError:
        return True  # no text at all: the reader of tables says why
    return has_columns(content, dialect)


def _propose_folder(folder: Path, root: Path, dataset: str, choices: Choices) -> Proposal:
    from aeops.intake.array_search import is_idx_folder
    from aeops.intake.arrays import propose_arrays

    listing = list_images(folder)
    if not (listing.images or listing.others):
        reasons = format_reasons(listing.problems, 3)
        raise DataError(f"{folder}: the folder is empty{f' but for what is left out: {reasons}' if reasons else ''}")
    if is_idx_folder(folder):
        return propose_arrays(folder, root, dataset, choices)
    if listing.others and all(name.lower().endswith(".txt") for name in listing.others) and not listing.images:
        samples = [folder / name for name in listing.others[:5]]
        if not all(map(_is_table, samples)):
            return propose_texts(folder, root, dataset, choices)
    tables = [name for name in listing.others if table_format(name) in ("text", "arrow", "workbook", "database")]
    if tables and len(tables) > len(listing.images):
        from aeops.intake.tables import propose_table

        return propose_table(folder, root, dataset, choices)
    if not listing.images:
        raise DataError(_folder_refusal(folder, listing))
    from aeops.intake.images import propose_images

    return propose_images(folder, root, dataset, choices)


def _folder_refusal(folder: Path, listing: ImageFolder) -> str:
    """Return why a folder without images and tables cannot be taken in."""
    for name in listing.others:
        if reason := refusal_of(folder / name):
            return f"{folder}: {reason}"
    return f"{folder}: nothing in it is known ({listing.others[0]}, ...): expected {TAKEN}"
