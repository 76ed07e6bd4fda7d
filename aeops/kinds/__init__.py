"""The kinds of data by name, with what a light process has to know of them. Standard library only.

A kind is one module of this folder, called by its name, whose `KIND` offers all of `aeops.kinds.interface.DataKind`. To add
one: the module, and a line in `KINDS`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class KindInfo:
    """Plain facts about a kind of data.

    Attributes:
        description: the axes of a sample, or what it is made of.
        bounds: keys of the recipe's section validate that its samples are judged by.
        packages: what a served model of it needs beside numpy and onnxruntime.
    """

    description: str
    bounds: tuple[str, ...]
    packages: tuple[str, ...] = ()


KINDS: dict[str, KindInfo] = {
    "image": KindInfo("channels, height, width", ("sample_mean", "sample_std")),
    "series": KindInfo("channels, steps of a window", ("sample_mean", "sample_std")),
    "text": KindInfo("UTF-8", ("characters", "letters"), packages=("tokenizers",)),
}


def module_name(kind: str) -> str:
    """Return the name of the kind's module.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in KINDS:
        known = ", ".join(f"{name} ({info.description})" for name, info in KINDS.items())
        raise ValueError(f"expected a kind of data out of {known}, got {kind!r}")
    return f"{__package__}.{kind}"
