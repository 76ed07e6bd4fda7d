"""`ae decompress X.aez`: reconstruct the images of an archive with the version that compressed them."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aeops.bundle.detector import Detector
    from aeops.codec.container import ArchiveContent
    from aeops.registry.store import Store


def add_command(commands: Any) -> None:
    """Add `ae decompress` to the commands of the parser."""
    command = commands.add_parser("decompress", help="reconstruct the images of an .aez file")
    command.add_argument("file", type=Path, metavar="X.aez", help="a file that `ae compress` wrote")
    command.add_argument("-o", "--out", type=Path, metavar="PATH", help="a folder for PNG images, or an .npy file (default: X)")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the images, or an array."""
    from aeops.bundle.detector import Detector
    from aeops.cli.outputs import require_new
    from aeops.codec.container import unpack_archive
    from aeops.errors import UsageError
    from aeops.kinds.decoding import read_file_content
    from aeops.project import find_project
    from aeops.recipe.reader import load_recipe
    from aeops.registry.store import open_store
    from aeops.registry.trust import trusted_bundle

    file: Path = arguments.file
    if not file.is_file():
        raise UsageError(f"no file {file}: expected one that `ae compress` wrote")
    output_path: Path = arguments.out or file.with_suffix("")
    require_new(output_path)
    archive = unpack_archive(read_file_content(file), str(file))
    project = find_project()
    recipe = load_recipe(project, archive.recipe, with_keys=True)
    store = open_store(project)
    version = find_version(archive, store, file)
    bundle = trusted_bundle(project, store, recipe, version)
    detector = Detector(bundle.folder, bundle.sha256)
    require_space(archive, detector, output_path)
    if output_path.suffix == ".npy":
        write_array(archive, detector, output_path)
    else:
        write_folder(archive, detector, output_path)
    print(
        f"{output_path}: {archive.sample_count} samples as {archive.recipe} {version} (bundle {archive.bundle[:12]}) makes them"
    )
    return 0


def require_space(archive: "ArchiveContent", detector: "Detector", path: Path) -> None:
    """Require a disk that holds the samples as an array: a few bytes of an archive may stand for many samples.

    Raises:
        InfrastructureError: there is less space.
    """
    import math
    import shutil

    import numpy as np

    from aeops.codec.images import to_array_dtype
    from aeops.errors import InfrastructureError

    value_bytes = to_array_dtype(np.zeros(0), detector.low, detector.high).dtype.itemsize
    needed_bytes = archive.sample_count * math.prod(detector.output_shape) * value_bytes
    free_bytes = shutil.disk_usage(path.parent).free
    if needed_bytes > free_bytes:
        raise InfrastructureError(
            f"the {archive.sample_count:,} samples take {needed_bytes / 2**30:.1f} GiB, and the disk of {path.parent} has "
            f"{free_bytes / 2**30:.1f} GiB free: pass a path on a larger disk with -o"
        )


def find_version(archive: "ArchiveContent", store: "Store", file: Path) -> str:
    """Return the version of the bundle that the archive names, whatever its number is in this registry.

    Raises:
        UsageError: the registry has no such bundle.
    """
    from aeops.errors import UsageError

    version_names = []
    for version in store.versions(archive.recipe):
        if version.tags["bundle_sha256"].startswith(archive.bundle):
            return version.version
        version_names.append(version.version)
    available = "has none"
    if version_names:
        available = f"has {archive.recipe} {', '.join(version_names)}, of other bundles"
    raise UsageError(
        f"{file} needs {archive.recipe} {archive.version} with the bundle {archive.bundle}; {store.uri} {available}: set "
        "MLFLOW_TRACKING_URI to the registry that the file was made with, then type the same command again"
    )


def write_array(archive: "ArchiveContent", detector: "Detector", path: Path) -> None:
    """Write the reconstructions (n, *shape) as one .npy file, in the dtype of the samples."""
    import numpy as np

    from aeops.codec.archive import decompress_samples
    from aeops.codec.images import to_array_dtype
    from aeops.data.array_files import write_npy_file
    from aeops.files import atomic_path

    low, high = detector.low, detector.high
    dtype = to_array_dtype(np.zeros(0), low, high).dtype
    with atomic_path(path) as tmp_path:
        blocks = (to_array_dtype(block, low, high) for block in decompress_samples(archive, detector))
        write_npy_file(tmp_path, (archive.sample_count, *detector.output_shape), dtype, blocks)


def write_folder(archive: "ArchiveContent", detector: "Detector", path: Path) -> None:
    """Write each reconstruction as a PNG image, named after its source.

    Raises:
        DataError: samples that are no images.
    """
    from aeops.codec.archive import decompress_samples
    from aeops.codec.images import image_names, require_image_shape, write_images
    from aeops.files import atomic_folder

    require_image_shape(detector.output_shape)
    names = image_names(archive.sources)
    with atomic_folder(path) as folder:
        write_images(folder, names, decompress_samples(archive, detector), detector.low, detector.high)
