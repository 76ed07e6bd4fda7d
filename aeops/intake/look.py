"""Finds out what a path holds, and who proposes a recipe for it."""

from pathlib import Path

from aeops.data.sources.image_files import list_images
from aeops.errors import DataError, UsageError
from aeops.intake.proposal import Choices, Proposal


def propose(origin: str, root: Path, dataset: str, choices: Choices) -> Proposal:
    """Look at what lies at `origin` and propose a recipe.

    Args:
        origin: a path or an address, as a person typed it.
        root: of the project.
        dataset: its name in the recipe.
        choices: what the person said by options.

    Raises:
        UsageError: there is nothing, or an option does not fit.
        DataError: what is there cannot be taken in, and what to convert it to.
    """
    path = Path(origin).expanduser()
    if not path.exists():
        raise UsageError(f"no file or folder {origin}: expected a path to your data")
    if path.is_dir():
        return _propose_folder(path, root, dataset, choices)
    raise DataError(f"{origin}: expected a folder of images")


def _propose_folder(folder: Path, root: Path, dataset: str, choices: Choices) -> Proposal:
    listing = list_images(folder)
    if not (listing.images or listing.others):
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(listing.problems.items())[:3])
        raise DataError(f"{folder}: the folder is empty{f' but for what is left out: {reasons}' if reasons else ''}")
    from aeops.intake.images import propose_images

    return propose_images(folder, root, dataset, choices)
