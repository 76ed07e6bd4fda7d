"""A folder of images: what is in it, and the recipe that is proposed for it."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median

from aeops.data.sources.image_files import ImageFolder, list_images, match_masks
from aeops.drawing.words import format_count
from aeops.errors import DataError
from aeops.intake.common_sections import data_section, gate_section, threshold_section
from aeops.intake.image_labels import ImageLayout, find_layout, find_masks_folder
from aeops.intake.image_model import evaluate_section, image_validate_section, model_sections, train_section
from aeops.intake.image_probe import ImageProbe, ValueRange, measure_images, probe_images, require_different
from aeops.intake.proposal import Choices, Proposal, Understanding, source_path, split_labels
from aeops.intake.recipe_text import Entry
from aeops.intake.sizing import count_anomalies, count_normal, fitting_side, split_sizes
from aeops.intake.wording import format_counts, format_reasons

KEPT_SIDE = 64  # pixels; larger images are shrunk to it, as a first model trains in minutes then
SIDE_MULTIPLE = 8
NAMED = 3  # files that a line names


@dataclass(frozen=True)
class ImageRules:
    """The proposed section input; see `aeops.kinds.picture_samples.PictureRules`."""

    shape: tuple[int, int, int]
    low: float
    high: float
    resize: str
    frames: str
    size_reason: str
    channel_reason: str


def propose_images(folder: Path, root: Path, dataset: str, choices: Choices) -> Proposal:
    """Look at a folder of images and propose a recipe.

    Args:
        folder: the folder.
        root: of the project.
        dataset: its name in the recipe.
        choices: what the person said.

    Raises:
        DataError: no image that can be read, or too few.
        UsageError: an option that does not fit.
    """
    masks = find_masks_folder(folder)
    listing = list_images(folder, masks)
    if masks is not None and (not listing.masks or not listing.images):
        masks, listing = None, list_images(folder)
    if not listing.images:
        raise DataError(f"{folder}: no image files in it, but {len(listing.others):,} others; {_some(listing.problems)}")
    probe = probe_images(folder, listing)
    if not probe.names:
        raise DataError(f"{folder}: none of {len(listing.images):,} image files can be read; {_some(probe.problems)}")
    understood = Understanding("image", source_path(folder, root, choices), len(listing.images))
    layout = find_layout(folder, listing, masks, choices, understood)
    rules = _image_rules(probe, choices)
    values = measure_images(folder, probe.names, rules)
    require_different(values, str(folder))
    _describe(understood, folder, listing, probe, layout, rules, values)
    anomalies = split_labels(list(layout.counts), choices, understood) if len(layout.counts) > 1 else ()
    return _recipe(understood, listing, probe, layout, rules, values, anomalies, dataset)


def _image_rules(probe: ImageProbe, choices: Choices) -> ImageRules:
    """Return size, channels, range and rules of a sample."""
    sizes = Counter(probe.sizes)
    (width, height), count = sizes.most_common(1)[0]
    share = count / len(probe.sizes)
    if choices.size is not None:
        height_width, reason = choices.size, "as you asked"
    else:
        height_width, reason = _proposed_size(sizes)
    resize = "refuse" if len(sizes) == 1 and height_width == (height, width) else "pad"
    high = 255.0
    if probe.is_deep:
        high = float(min(65535, max(1023, 2 ** math.ceil(math.log2(probe.deepest + 1)) - 1)))
    channels = choices.channels or (1 if probe.is_grey or probe.is_deep else 3)
    channel_reason = "grey: no image has colours" if channels == 1 else "red, green and blue: some images have colours"
    if choices.channels:
        channel_reason = "as you asked"
    if share < 1 and resize == "pad":
        reason += f"; {len(sizes)} sizes are there, and each image is fitted in, its border's colour around it"
    frames = "first" if probe.frames else "refuse"
    return ImageRules((channels, *height_width), 0.0, high, resize, frames, reason, channel_reason)


def _proposed_size(sizes: Counter[tuple[int, int]]) -> tuple[tuple[int, int], str]:
    """Return (height, width) of a sample, and why."""
    (width, height), count = sizes.most_common(1)[0]
    if count < sum(sizes.values()):
        widths, heights = zip(*sizes.elements(), strict=True)
        width, height = round(median(widths)), round(median(heights))
    scale = min(1.0, KEPT_SIDE / max(width, height))
    least = 4 if scale == 1 else SIDE_MULTIPLE
    size = (fitting_side(height * scale, least, SIDE_MULTIPLE), fitting_side(width * scale, least, SIDE_MULTIPLE))
    if size == (height, width):
        return size, "the size that the images have"
    if scale == 1:
        return size, f"of {width}x{height}: sides that the network can halve twice"
    return (
        size,
        f"of {width}x{height}, shrunk to {KEPT_SIDE} pixels, so that a first training takes minutes: --size 128x128 keeps more",
    )


# ---------------------------------------------------------------- what was understood


def _describe(
    understood: Understanding,
    folder: Path,
    listing: ImageFolder,
    probe: ImageProbe,
    layout: ImageLayout,
    rules: ImageRules,
    values: ValueRange,
) -> None:
    sizes = Counter(probe.sizes)
    common = ", ".join(f"{width}x{height} ({count:,})" for (width, height), count in sizes.most_common(NAMED))
    formats = format_counts(probe.formats.most_common())
    modes = format_counts(probe.modes.most_common())
    probed = "" if len(probe.names) + len(probe.problems) == len(listing.images) else f" (of {len(probe.names):,} looked at)"
    channels, height, width = rules.shape
    understood.facts += [
        ("kind", f"image: {len(listing.images):,} files in {folder}"),
        ("formats", f"{formats}{probed}"),
        ("sizes", f"{common}{', ...' if len(sizes) > NAMED else ''}{probed}"),
        ("modes", f"{modes}{probed}"),
        ("sample", f"{channels} x {height} x {width} pixels, values 0 to {rules.high:g}; {rules.size_reason}"),
        ("labels", layout.description if not layout.counts else f"{layout.description}: {_counts(layout.counts)}"),
    ]
    if layout.masks is not None:
        matched = len(match_masks(listing.images, listing.masks, layout.masks))
        understood.facts.append(("masks", f"{len(listing.masks):,} in {layout.masks}/, of {matched:,} images"))
        if matched < len(listing.masks):
            understood.oddities.append(f"{len(listing.masks) - matched:,} masks belong to no image")
    understood.oddities += _oddities(listing, probe, layout, rules, values)


def _oddities(listing: ImageFolder, probe: ImageProbe, layout: ImageLayout, rules: ImageRules, values: ValueRange) -> list[str]:
    lines = []
    if listing.others:
        count = len(listing.others)
        are = "is no image by its name" if count == 1 else "are no images by their names"
        lines.append(f"{format_count(count, 'file')} {are}, and left out: {_names(listing.others)}")
    if listing.problems:
        lines.append(f"{len(listing.problems):,} left out: {_some(listing.problems)}")
    if probe.problems:
        lines.append(f"{len(probe.problems):,} cannot be read, and will be set aside: {_some(probe.problems)}")
    if probe.frames:
        lines.append(
            f"{format_count(len(probe.frames), 'file')} with several pages or frames; of each the first is read (frames: each in "
            f"the recipe makes samples of all): {_names(probe.frames)}"
        )
    if probe.turned:
        lines.append(f"{probe.turned:,} are turned upright by their EXIF orientation")
    if probe.transparent:
        lines.append(f"{probe.transparent:,} have transparent parts, which are laid on white")
    other_depth = len(probe.names) - probe.deep_count if probe.is_deep else probe.deep_count
    if other_depth:
        lines.append(f"{other_depth:,} have another depth than the most (8 or 16 bits), and will be set aside by name")
    if layout.counts and layout.unlabelled:
        lines.append(f"{layout.unlabelled:,} images have no label, and will be set aside by name")
    if values.blank:
        lines.append(f"{values.blank:,} of those measured show a single colour, and will be set aside as blank")
    if values.copies:
        lines.append(
            f"{values.copies:,} of those measured are equal to another one at this size: accepted, and never on two sides"
        )
    return lines


def _counts(counts: dict[str, int]) -> str:
    return format_counts(islice(counts.items(), 12)) + (f" and {len(counts) - 12} more" if len(counts) > 12 else "")


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def _some(problems: dict[str, str]) -> str:
    return format_reasons(problems, NAMED) + ("; ..." if len(problems) > NAMED else "")


# ---------------------------------------------------------------- the recipe


def _recipe(
    understood: Understanding,
    listing: ImageFolder,
    probe: ImageProbe,
    layout: ImageLayout,
    rules: ImageRules,
    values: ValueRange,
    anomalies: Sequence[str],
    dataset: str,
) -> Proposal:
    unreadable = len(probe.problems) / max(1, len(probe.names) + len(probe.problems))
    left_out = len(listing.problems) / (len(listing.images) + len(listing.problems))  # which are not among the images
    labelled = sum(layout.counts.values()) if layout.counts else len(listing.images)
    sizes = split_sizes(int(count_normal(labelled, layout.counts, anomalies) * (1 - unreadable)))
    labels = list(layout.counts) if len(layout.counts) > 1 else []
    proposal = Proposal(understood, f"the folder {understood.source}", f"Images of {understood.source}.")
    proposal.entries = [
        data_section(dataset, _source_entries(understood, layout, bool(labels)), labels, anomalies, sizes),
        image_validate_section(len(listing.images), values, unreadable + left_out + layout.unlabelled / len(listing.images)),
        Entry(
            "input",
            [
                Entry("kind", "image"),
                Entry("shape", list(rules.shape), f"channels, height, width; {rules.channel_reason}; {rules.size_reason}"),
                Entry("low", 0),
                Entry("high", int(rules.high), "8 bits a channel" if rules.high == 255 else "16 bits; no value is larger"),
                Entry("resize", rules.resize, "of files of another size, also of those that clients send: the bundle carries it"),
                Entry("frames", rules.frames, "of files with several pages or an animation: refuse, first or each"),
            ],
        ),
        *model_sections(rules.shape, sizes.train),
        threshold_section(sizes),
        train_section(rules.shape, sizes.train),
        evaluate_section(sizes.train, layout.masks is not None and bool(anomalies)),
        gate_section(count_anomalies(layout.counts, anomalies)),
    ]
    return proposal


def _source_entries(understood: Understanding, layout: ImageLayout, has_labels: bool) -> list[Entry]:
    entries = [Entry("kind", "images"), Entry("path", understood.source)]
    if has_labels and layout.labels is not None:
        spec = layout.labels
        value = {"folder": spec.folder} if spec.folder else {"file": spec.file, "name": spec.name, "label": spec.label}
        entries.append(Entry("labels", value, layout.description))
    if layout.masks is not None:
        entries.append(Entry("masks", layout.masks, "masks of the defects; evaluation alone reads them"))
    return entries
