"""`ae compress FILES -o X.aez`: samples as the words of a quantised model, entropy-coded."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeops.files import atomic_write
from aeops.registry.aliases import CHAMPION

if TYPE_CHECKING:
    import numpy as np

    from aeops.bundle.detector import Detector
    from aeops.codec.container import ArchiveContent, ArchiveSource
    from aeops.project import Project
    from aeops.registry.store import Store

QUANTISED = "vq"  # the bottleneck whose codes are words


def add_command(commands: Any) -> None:
    """Add `ae compress` to the commands of the parser."""
    command = commands.add_parser("compress", help="compress images with a registered version whose codes are words")
    command.add_argument("files", type=Path, nargs="+", metavar="FILE", help=".npy, .png, .jpg, or a folder of images")
    command.add_argument("-o", "--out", type=Path, required=True, metavar="X.aez", help="the file to write")
    command.add_argument("--recipe", help="a recipe whose bottleneck is vq (default: the only one that has a champion)")
    command.add_argument("--version", default=CHAMPION, help="a version or an alias (default: champion)")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Writes the archive and says what became of the bytes."""
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
        raise UsageError(f"-o {arguments.out} given; a name that ends in .aez is allowed")
    require_new(arguments.out)
    project = find_project()
    store = open_store(project)
    recipe = arguments.recipe or only_codec(project, store)
    version = store.version(recipe, arguments.version).version
    detector = Detector(trusted_bundle(project, store, load_recipe(project, recipe, with_keys=True), version))
    require_quantised(detector, recipe)
    samples = [read(file, detector) for file in arguments.files]
    image_names([source for sources, _ in samples for source in sources])  # two of one name: said before the work is done
    archive = compress_samples(detector, recipe, version, samples)
    atomic_write(arguments.out, pack_archive(archive))
    print(summary(arguments.out, archive, given=sum(values.nbytes for _, values in samples)))
    return 0


def only_codec(project: "Project", store: "Store") -> str:
    """The only recipe whose codes are words and that has a champion.

    Raises:
        UsageError: there is none, or there are several to choose from.
    """
    from aeops.errors import UsageError
    from aeops.recipe.reader import load_recipe, recipe_names

    quantised = [name for name in recipe_names(project) if load_recipe(project, name).fit.model.bottleneck.kind == QUANTISED]
    ready = [name for name in quantised if store.champion(name)]
    if len(ready) > 1:
        raise UsageError(
            f"several recipes can compress: give one of them, such as --recipe {ready[0]}; {', '.join(ready)} allowed"
        )
    if not ready:
        make = f"make one with `ae run {quantised[0]}`" if quantised else "write one into recipes/ and train it with `ae run`"
        raise UsageError(f"no recipe whose bottleneck is {QUANTISED} has a champion in {store.uri}: {make}")
    return ready[0]


def read(file: Path, detector: "Detector") -> "tuple[tuple[ArchiveSource, ...], np.ndarray]":
    """The samples of a file or folder (n, *shape), and the names of what they came from."""
    from aeops.codec.container import ArchiveSource

    samples = detector.read_file(file)
    if file.is_file() and file.suffix.lower() == ".npy":
        return (ArchiveSource(file.name, len(samples.names)),), samples.values
    return tuple(ArchiveSource(name) for name in samples.names), samples.values


def summary(place: Path, archive: "ArchiveContent", given: int) -> str:
    count, total = archive.sample_count, place.stat().st_size
    return (
        f"{place}: {count} sample{'s' * (count != 1)} in the words of {archive.recipe} {archive.version} "
        f"(bundle {archive.bundle[:12]})\n"
        f"{total:,} bytes in all, {total / count:.1f} a sample: {archive.coded_bytes / count:.1f} for its words, the rest is the "
        f"head; {given:,} bytes as arrays"
    )
