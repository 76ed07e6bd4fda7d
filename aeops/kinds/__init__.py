"""Kinds of data by name, with what a light process has to know of them. Standard library only.

A kind is one module of this folder, called by its name, whose `KIND` offers all of `aeops.kinds.interface.DataKind`. To add
one: the module, and a line in `KIND_INFOS`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class KindInfo:
    """Plain facts about a kind of data.

    Attributes:
        description: the axes of a sample, or what it is made of.
        bounds: keys of the recipe's section validate that its samples are judged by.
        measures: names in metrics.json of what is measured of a reconstruction, as numbers.
        measured_intervals: the same, as intervals.
        has_baselines: whether PCA, kNN and the others can be measured on its samples.
        file_types: media types of the files that people have, which a service takes as they are.
        packages: what a served model of it needs beside numpy and onnxruntime.
    """

    description: str
    bounds: tuple[str, ...]
    measures: tuple[str, ...]
    measured_intervals: tuple[str, ...] = ()
    has_baselines: bool = True
    packages: tuple[str, ...] = ()
    file_types: tuple[str, ...] = ()


_VALUE_MEASURES, _VALUE_INTERVALS = ("mse", "psnr", "ssim"), ("mse_interval",)


KIND_INFOS: dict[str, KindInfo] = {
    "image": KindInfo(
        "channels, height, width",
        ("sample_mean", "sample_std"),
        _VALUE_MEASURES,
        _VALUE_INTERVALS,
        file_types=("image/png", "image/jpeg", "image/webp", "image/bmp", "image/tiff"),
    ),
    "series": KindInfo("channels, steps of a window", ("sample_mean", "sample_std"), _VALUE_MEASURES, _VALUE_INTERVALS),
    "table": KindInfo("columns of numbers, booleans, categories and dates", (), ("mse",), _VALUE_INTERVALS),
    "text": KindInfo(
        "UTF-8",
        ("characters", "letters"),
        measures=("token_accuracy", "token_similarity", "exact"),
        has_baselines=False,
        packages=("tokenizers",),
    ),
}


def module_name(kind: str) -> str:
    """Return the name of the kind's module.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in KIND_INFOS:
        descriptions = [f"{name} ({info.description})" for name, info in KIND_INFOS.items()]
        raise ValueError(f"expected a kind of data out of {', '.join(descriptions)}, got {kind!r}")
    return f"{__package__}.{kind}"
