"""Errors of this package. Standard library only, so that any process may import it.

AeModelsError
├── SpecError       a setting of a model, score, threshold or training that is not valid
├── BundleError     a bundle, or a training's result, that is incomplete, altered or of an unknown format
└── TrainingError   a training that cannot go on
    ├── SampleError      samples that it cannot use
    ├── DivergenceError  a loss that is not finite
    └── WorkerError      one of several workers ended before the training did
"""

__all__ = ["AeModelsError", "BundleError", "DivergenceError", "SampleError", "SpecError", "TrainingError", "WorkerError"]


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
    """A bundle, or the result of a training, on disk that must not be used.

    Attributes:
        reason: what is wrong with it, without its folder.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        self.reason = reason or message
        super().__init__(message)


class TrainingError(AeModelsError):
    """A training that cannot go on."""


class SampleError(TrainingError):
    """Samples that are too few, of another shape or range than the spec says, or not readable."""


class DivergenceError(TrainingError):
    """A loss that is not finite: the settings of the training do not suit its samples."""


class WorkerError(TrainingError):
    """One of several workers ended before the training did, such as by a kill: tried again, the same training may work."""
