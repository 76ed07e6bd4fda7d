"""The kinds of data by name, with what a light process has to know of them. Standard library only.

A kind is one module of this folder, called by the kind's name. To add one: the module, with everything that
`aeops.kinds.interface.Kind` asks for, and a line in `KINDS`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class KindInfo:
    """Plain facts about a kind of data.

    Attributes:
        description: one sample of it, for a message.
        bounds: keys of the recipe's section validate that its samples are judged by.
        packages: what a served model of it needs beside numpy and onnxruntime.
    """

    description: str
    bounds: tuple[str, ...]
    packages: tuple[str, ...] = ()


KINDS: dict[str, KindInfo] = {
    "image": KindInfo("an image (channels, height, width)", ("sample_mean", "sample_std")),
    "series": KindInfo("a window of a series (channels, steps)", ("sample_mean", "sample_std")),
    "text": KindInfo("a text", ("characters", "letters"), packages=("tokenizers",)),
}


def module_name(kind: str) -> str:
    """Return the name of the kind's module.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"expected a kind of data out of {', '.join(KINDS)}, got {kind!r}")
    return f"{__name__}.{kind}"
