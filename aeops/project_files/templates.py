"""The files that this package writes into a project: their text, and how to recognise one."""

from importlib import resources
from pathlib import Path

OWN_MARK = "# Written by ae-pipeline"  # in the first lines of each
# Path in a project -> template; every run brings them up to date. By dvc.yaml a folder is known as a project, so it comes last.
PIPELINE_FILES = {".dvc/stage": "stage.sh", "dvc.yaml": "dvc.yaml"}
LOCK_FILE, DOCS_FOLDER = "requirements.lock", "docs"


def read_template(name: str) -> str:
    """Return the text of a template."""
    return resources.files("aeops.project_files").joinpath(name).read_text(encoding="utf-8")


def is_own_file(file: Path) -> bool:
    """Return whether this package wrote a file, and so may replace it; False for one that does not exist."""
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return OWN_MARK.encode() in stream.read(200)


def shipped_lock() -> Path | None:
    """Return the lock that this package was tested with: in the wheel a file of this folder, in a checkout that in its root.

    None where neither is there.
    """
    folder = Path(__file__).resolve().parent
    for file in (folder / LOCK_FILE, folder.parents[1] / LOCK_FILE):
        if file.is_file():
            return file
    return None


def shipped_docs() -> dict[str, Path]:
    """Return the pages of the documentation by name: in the wheel files below this folder, in a checkout those of docs/."""
    folder = Path(__file__).resolve().parent
    for docs in (folder / DOCS_FOLDER, folder.parents[1] / DOCS_FOLDER):
        if docs.is_dir():
            return {file.stem: file for file in sorted(docs.glob("*.md"))}
    return {}
