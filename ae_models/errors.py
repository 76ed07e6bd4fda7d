"""Errors of this package. Standard library only, so that any process may import it.

AeModelsError
├── SpecError       a setting of a model, score, threshold or training that is not valid
├── BundleError     a bundle, or a training's result, that is incomplete, altered or of an unknown format
└── TrainingError   a training that cannot go on (loss not finite, no data, another training's checkpoint)
"""

__all__ = ["AeModelsError", "BundleError", "SpecError", "TrainingError"]


class AeModelsError(Exception):
    """Root of this package's errors; the message says what was expected, what was found and what to do."""


class SpecError(AeModelsError, ValueError):
    """Every mistake of a specification at once.

    Attributes:
        mistakes: one line a mistake, in the order in which they were found.
    """

    def __init__(self, mistakes: list[str]) -> None:
        self.mistakes = list(mistakes)
        super().__init__("\n".join(self.mistakes))


class BundleError(AeModelsError):
    """A bundle, or the result of a training, on disk that must not be used."""


class TrainingError(AeModelsError):
    """A training that cannot go on."""
