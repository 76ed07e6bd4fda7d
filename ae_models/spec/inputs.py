"""Kinds of input, and the section `input`: one stored sample."""

from dataclasses import dataclass

from ae_models.spec.fields import bounded_field

__all__ = ["ARRAY_KINDS", "IMAGE", "INPUT_KINDS", "SERIES", "TEXT", "InputSpec"]

IMAGE, SERIES, TEXT = "image", "series", "text"
ARRAY_KINDS = (IMAGE, SERIES)  # values are numbers with a meaning; a text is made of token ids
INPUT_KINDS = (IMAGE, SERIES, TEXT)
_AXES = {IMAGE: ("channels", "height", "width"), SERIES: ("channels", "steps"), TEXT: ("bytes",)}


@dataclass(frozen=True)
class InputSpec:
    """One stored sample: an image (channels, height, width), a window of a series (channels, steps) or a text (bytes,).

    Values lie in [low, high]. A text is its UTF-8 bytes, padded with zeros.
    """

    kind: str = bounded_field(IMAGE, one_of=INPUT_KINDS)  # of data
    shape: tuple[int, ...] = bounded_field((1, 28, 28), low=1, high=65536)  # of a stored sample
    low: float = bounded_field(0.0)  # lowest value
    high: float = bounded_field(255.0)  # highest value
    target_channels: int = bounded_field(0, low=0, high=4096)  # the last channels, which the model predicts from the others
    given: str = bounded_field("clean", one_of=("clean", "corrupted"))  # input of the served model; training always corrupts

    def validation_errors(self) -> list[str]:
        errors = []
        axes = _AXES[self.kind]
        if len(self.shape) != len(axes):
            errors.append(f"shape is {list(self.shape)}, expected [{', '.join(axes)}] for kind {self.kind}")
        if not self.low < self.high:
            errors.append(f"low is {self.low:g} and high is {self.high:g}: low must be below high")
        if self.kind == TEXT and (self.low, self.high) != (0, 255):
            errors.append(f"low is {self.low:g} and high is {self.high:g}, expected 0 and 255: a text is made of bytes")
        if self.kind == TEXT and self.given != "clean":
            errors.append(f"given is {self.given}, expected clean for kind text")
        if self.target_channels and self.kind != IMAGE:
            errors.append(f"target_channels is {self.target_channels}, expected 0 for kind {self.kind}")
        elif self.target_channels >= self.shape[0]:
            errors.append(
                f"target_channels is {self.target_channels}, expected at most {self.shape[0] - 1} with {self.shape[0]} channels: "
                "the model needs an input"
            )
        return errors
