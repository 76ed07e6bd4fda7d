"""Run docs/tour.ipynb and store what its cells print: python docs/run_tour.py"""

import os
import re
import sys
from pathlib import Path

import nbformat
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOK = Path(__file__).parent / "tour.ipynb"
CELL_SECONDS = 900
COLUMNS = "110"
STYLE = re.compile(r"\x1b\[[0-9;]*m")
VARIABLE = re.compile(r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{7,64}\b|\d{4}-\d\d-\d\d \d\d:\d\d|\d+\.\d s\b|\S*/tour-\w+")


def run_notebook() -> NotebookNode:
    """Return the notebook with the outputs of today's code. Its cells work in a temporary folder.

    Raises:
        CellExecutionError: a cell has failed.
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    own_commands = str(Path(sys.executable).parent)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AE_")}  # it has a project of its own
    environment |= {"PATH": f"{own_commands}{os.pathsep}{os.environ['PATH']}", "COLUMNS": COLUMNS, "NO_COLOR": "1"}
    kernel = KernelManager(kernel_name="python3", transport="ipc")  # files that this user alone reads, no ports
    client = NotebookClient(notebook, km=kernel, timeout=CELL_SECONDS, record_timing=False, coalesce_streams=True)
    client.execute(env=environment)
    return strip_styles(notebook)


def strip_styles(notebook: NotebookNode) -> NotebookNode:
    """Take bold and italics out of what was printed: a kernel sets FORCE_COLOR, and NO_COLOR speaks of colours alone."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "text" in output:
                output["text"] = STYLE.sub("", output["text"])
    return notebook


def printed_texts(notebook: NotebookNode) -> list[str]:
    """Return what each code cell prints, without hashes, times and folders, which differ from run to run."""
    texts = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            parts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
            texts.append(VARIABLE.sub("...", "".join(parts)))
    return texts


if __name__ == "__main__":
    nbformat.write(run_notebook(), NOTEBOOK)  # type: ignore[no-untyped-call]
