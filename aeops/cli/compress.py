"""`ae compress FILES -o X.aez`: write samples as the entropy-coded words of a quantised model."""

import argparse
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from aeops.files import atomic_write
from aeops.registry.aliases import CHAMPION

if TYPE_CHECKING:
    import numpy as np

    from aeops.bundle.detector import Detector
    from aeops.codec.container import ArchiveContent, ArchiveSource
    from aeops.project import Project
    from aeops.registry.store import Store

CODEC_BOTTLENECK = "vq"  # its codes are words, which can be entropy-coded


def add_command(commands: Any) -> None:
    """Add `ae compress` to the commands of the parser."""
    command = commands.add_parser("compress", help="compress images with a registered version whose codes are words")
    command.add_argument("files", type=Path, nargs="+", metavar="FILE", help=".npy, .png, .jpg, or a folder of images")
    command.add_argument("-o", "--out", type=Path, required=True, metavar="X.aez", help="the file to write")
    command.add_argument("--recipe", help="a recipe whose bottleneck is vq (default: the only one that has a champion)")
    command.add_argument("--version", default=CHAMPION, help="a version or an alias (default: champion)")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the archive and print its size."""
    from aeops.bundle.detector import Detector
    from aeops.cli.outputs import require_new
    from aeops.codec.archive import compress_samples, require_quantised
    from aeops.codec.container import pack_archive
    from aeops.codec.images import image_names
    from aeops.errors import UsageError
    from aeops.project import find_project
    from aeops.recipe.reader import load_recipe
    from aeops.registry.store import open_store
    from aeops.registry.trust import trusted_bundle

    if arguments.out.suffix != ".aez":
        raise UsageError(f"-o {arguments.out}: expected a path that ends in .aez, such as {arguments.out.with_suffix('.aez')}")
    require_new(arguments.out)
    project = find_project()
    store = open_store(project)
    recipe = arguments.recipe or find_codec_recipe(project, store)
    bundle = trusted_bundle(project, store, load_recipe(project, recipe, with_keys=True), arguments.version)
    version, detector = bundle.version, Detector(bundle.folder, bundle.sha256)
    require_quantised(detector, recipe)
    samples = []
    sources: list[ArchiveSource] = []
    array_bytes = 0
    for file in arguments.files:
        file_sources, values = read_archive_samples(file, detector)
        samples.append((file_sources, values))
        sources.extend(file_sources)
        array_bytes += values.nbytes
    image_names(sources)  # refuses equal names before the slow part
    archive = compress_samples(detector, recipe, version, samples)
    atomic_write(arguments.out, pack_archive(archive))
    print(size_summary(arguments.out, archive, array_bytes))
    return 0


def find_codec_recipe(project: "Project", store: "Store") -> str:
    """Return the only recipe that has a quantised bottleneck and a champion.

    Raises:
        UsageError: there is none, or there are several to choose from.
    """
    from aeops.errors import UsageError
    from aeops.recipe.reader import load_recipe, recipe_names

    codec_recipes = []
    for name in recipe_names(project):
        if load_recipe(project, name).fit.model.bottleneck.kind == CODEC_BOTTLENECK:
            codec_recipes.append(name)
    candidate_names = list(filter(store.champion, codec_recipes))
    if len(candidate_names) == 1:
        return candidate_names[0]
    if candidate_names:
        raise UsageError(
            f"expected --recipe with one of {', '.join(candidate_names)}, got none: several recipes can compress; "
            f"type the same command with a name, such as --recipe {candidate_names[0]}"
        )
    next_step = "write one into recipes/ and train it with `ae run`"
    if codec_recipes:
        next_step = f"make one with `ae run {codec_recipes[0]}`"
    raise UsageError(f"no recipe whose bottleneck is {CODEC_BOTTLENECK} has a champion in {store.uri}: {next_step}")


def read_archive_samples(file: Path, detector: "Detector") -> "tuple[tuple[ArchiveSource, ...], np.ndarray]":
    """Return the sources of a file or folder and their samples, (n, *shape).

    Raises:
        UsageError: no such file.
        DataError: a file, also one of the folder's, that cannot be read, or samples that do not fit the model.
    """
    from aeops.codec.container import ArchiveSource
    from aeops.errors import DataError

    samples = detector.read_file(file)
    if samples.refused:
        reasons = "; ".join(samples.refused.values())
        raise DataError(f"{len(samples.refused)} files of {file} cannot be compressed, so no archive is made: {reasons}")
    if file.is_file() and file.suffix.lower() == ".npy":
        return (ArchiveSource(file.name, len(samples.names)),), samples.values
    return tuple(ArchiveSource(PurePosixPath(name).name) for name in samples.names), samples.values


def size_summary(path: Path, archive: "ArchiveContent", array_bytes: int) -> str:
    """Return two lines: the archive's content, and its size beside the size of the arrays."""
    from aeops.cli.outputs import count_text

    count, total = archive.sample_count, path.stat().st_size
    return (
        f"{path}: {count_text(count, 'sample')} in the words of {archive.recipe} {archive.version} "
        f"(bundle {archive.bundle[:12]})\n"
        f"{total:,} bytes in all, {total / count:.1f} a sample: {archive.coded_bytes / count:.1f} for its words, the rest is the "
        f"head; {array_bytes:,} bytes as arrays"
    )
