"""Which split a sample belongs to: drawn by its own content or group alone, so that it stays there whatever comes or goes.

Standard library only.
"""

import hashlib
from collections.abc import Iterable

from aeops.recipe.sections import DataSpec, SplitSpec


def draw_split(key: str, dataset: str, split: SplitSpec) -> str:
    """Return the split of a sample, drawn by its key and salted by the dataset's name.

    It depends on nothing else. So a sample keeps its split when others are added, removed or reordered, and samples with the
    same key share theirs.

    Args:
        key: the SHA-256 of the sample's content, or its group.
        dataset: the name of the dataset.
        split: the shares of the splits; the rest is `train`.
    """
    [drawn] = _draw_each([key], dataset, split)
    return drawn


def draw_splits(keys: Iterable[object], data: DataSpec) -> list[str]:
    """Return the splits of samples by their keys, as `draw_split` draws each.

    Args:
        keys: SHA-256 of contents, or groups.
        data: the recipe's section with the name of the dataset and the shares of its splits.
    """
    return _draw_each(map(str, keys), data.dataset, data.split)


def _draw_each(keys: Iterable[str], dataset: str, split: SplitSpec) -> list[str]:
    shares = (("test", split.test or 0.0), ("calibration", split.calibration), ("validation", split.validation))
    drawn = []
    for key in keys:
        point = int.from_bytes(hashlib.sha256(f"{dataset} {key}".encode()).digest()[:8], "big") / 2**64
        for name, share in shares:
            if point < share:
                drawn.append(name)
                break
            point -= share
        else:
            drawn.append("train")
    return drawn
