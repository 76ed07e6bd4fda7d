"""The image files below a folder that people fill: which are samples, and what is left out by name. Standard library only.

Links are not followed: they may lead anywhere, and two of them to one file. Hidden files and folders do not count, nor files
whose names do not end as an image's.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from aeops.data.sources.files import LINK_REASON
from aeops.kinds.image_names import IMAGE_SUFFIXES

UNREADABLE_REASON = "it may not be read: make it readable"
SKIPPED_FOLDERS = ("__MACOSX",)  # what macOS adds to archives
MASK_ENDINGS = ("_mask", "-mask")  # of the name of a mask, before its suffix


@dataclass
class ImageFolder:
    """What lies below a folder, all by paths below it, with slashes.

    Attributes:
        images: files that end as images do, sorted.
        masks: those in the folder of masks, sorted.
        problems: what was left out -> the reason.
        others: files of other kinds, sorted.
    """

    images: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)


def list_images(folder: Path, masks: str | None = None, *, are_opened_next: bool = False) -> ImageFolder:
    """List a folder with its sub-folders.

    Args:
        folder: the folder.
        masks: a folder below it whose images are masks.
        are_opened_next: whether the caller opens every image anyway, and learns so which of them may not be read.
    """
    listing = ImageFolder()
    names: list[str] = []
    _walk(folder, "", names, listing.problems)
    for name in sorted(names):
        is_image = name.lower().endswith(IMAGE_SUFFIXES)
        is_mask = is_image and masks is not None and PurePosixPath(name).is_relative_to(masks)
        if not (is_image and are_opened_next and not is_mask) and not os.access(f"{folder}/{name}", os.R_OK):
            listing.problems[name] = UNREADABLE_REASON
        elif is_mask:
            listing.masks.append(name)
        elif is_image:
            listing.images.append(name)
        else:
            listing.others.append(name)
    return listing


def _walk(folder: str | Path, prefix: str, names: list[str], problems: dict[str, str]) -> None:
    """Add the regular files below a folder to `names`."""
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        problems[prefix.rstrip("/") or "."] = f"the folder cannot be listed ({error.strerror})"
        return
    for entry in entries:
        own_name = entry.name
        name = prefix + own_name
        if own_name.startswith(".") or own_name in SKIPPED_FOLDERS:
            continue
        if entry.is_file(follow_symlinks=False):  # the usual case
            if own_name.isprintable():
                names.append(name)
            else:
                problems[name] = "its name has characters that cannot be printed: rename it"
        elif entry.is_symlink():
            problems[name] = LINK_REASON
        elif entry.is_dir(follow_symlinks=False):
            _walk(entry.path, f"{name}/", names, problems)
        else:
            problems[name] = "no regular file"


def folder_of(name: str, level: int) -> str | None:
    """Return the folder of a file's path at a level, from 1; None where its path has fewer.

    >>> folder_of("train/good/1.png", 2), folder_of("1.png", 1)
    ('good', None)
    """
    folders = name.split("/")[:-1]
    return folders[level - 1] if len(folders) >= level else None


def match_masks(images: list[str], masks: list[str], folder: str) -> dict[str, str]:
    """Return image -> its mask, for those that have one: of the same path from some folder on, `_mask` added or not.

    >>> match_masks(["test/crack/1.jpg", "test/good/1.jpg"], ["truth/crack/1_mask.png"], "truth")
    {'test/crack/1.jpg': 'truth/crack/1_mask.png'}
    """
    by_stem: dict[str, str] = {}
    for mask in masks:
        stem = PurePosixPath(mask).relative_to(folder).with_suffix("").as_posix()
        for ending in MASK_ENDINGS:
            stem = stem.removesuffix(ending)
        by_stem[stem] = mask
    found = {}
    for image in images:
        parts = PurePosixPath(image).with_suffix("").parts
        for start in range(len(parts)):
            same_path = "/".join(parts[start:])
            if same_path in by_stem:
                found[image] = by_stem[same_path]
                break
    return found
