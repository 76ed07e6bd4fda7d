"""`ae decompress X.aez`: the images that the very version that compressed them makes of its words."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aeops.bundle.detector import Detector
    from aeops.codec.container import ArchiveContent
    from aeops.registry.store import Store


def add_command(commands: Any) -> None:
    """Add `ae decompress` to the commands of the parser."""
    command = commands.add_parser("decompress", help="make images of an .aez file again")
    command.add_argument("file", type=Path, metavar="X.aez", help="what `ae compress` wrote")
    command.add_argument("-o", "--out", type=Path, metavar="PLACE", help="a folder for PNG images, or an .npy file (default: X)")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Writes the images, or an array."""
    from aeops.bundle.detector import Detector
    from aeops.cli.outputs import require_new
    from aeops.codec.container import unpack_archive
    from aeops.errors import UsageError
    from aeops.project import find_project
    from aeops.recipe.reader import load_recipe
    from aeops.registry.store import open_store
    from aeops.registry.trust import trusted_bundle

    file: Path = arguments.file
    if not file.is_file():
        raise UsageError(f"no file {file}; one that `ae compress` wrote is allowed")
    place: Path = arguments.out or file.with_suffix("")
    require_new(place)
    archive = unpack_archive(file.read_bytes(), str(file))
    project = find_project()
    store = open_store(project)
    version = version_of(archive, store, file)
    recipe = load_recipe(project, archive.recipe, with_keys=True)
    detector = Detector(trusted_bundle(project, store, recipe, version))
    (write_array if place.suffix == ".npy" else write_folder)(archive, detector, place)
    print(f"{place}: {archive.sample_count} samples as {archive.recipe} {version} (bundle {archive.bundle[:12]}) makes them")
    return 0


def version_of(archive: "ArchiveContent", store: "Store", file: Path) -> str:
    """The version of the very bundle that the archive names, whatever its number is in this registry.

    Raises:
        UsageError: the registry has no such bundle.
    """
    from aeops.errors import UsageError

    known = store.versions(archive.recipe)
    for version in known:
        if version.tags["bundle_sha256"].startswith(archive.bundle):
            return version.version
    there = f"has {archive.recipe} {', '.join(version.version for version in known)}, of other bundles" if known else "has none"
    raise UsageError(
        f"{file} needs {archive.recipe} {archive.version} with the bundle {archive.bundle}; {store.uri} {there}: set "
        "MLFLOW_TRACKING_URI to the registry that the file was made with, then type the same command again"
    )


def write_array(archive: "ArchiveContent", detector: "Detector", place: Path) -> None:
    import numpy as np

    from aeops.codec.archive import decompress_samples
    from aeops.codec.images import to_array_dtype
    from aeops.data.array_files import write_npy_file
    from aeops.files import atomic_path

    low, high = detector.low, detector.high
    dtype = to_array_dtype(np.zeros(0), low, high).dtype
    with atomic_path(place) as tmp_path:
        blocks = (to_array_dtype(block, low, high) for block in decompress_samples(archive, detector))
        write_npy_file(tmp_path, (archive.sample_count, *detector.made_shape), dtype, blocks)


def write_folder(archive: "ArchiveContent", detector: "Detector", place: Path) -> None:
    from aeops.codec.archive import decompress_samples
    from aeops.codec.images import image_names, require_image_shape, write_images
    from aeops.files import atomic_folder

    require_image_shape(detector.made_shape)
    names = image_names(archive.sources)
    with atomic_folder(place) as folder:
        write_images(folder, names, decompress_samples(archive, detector), detector.low, detector.high)
