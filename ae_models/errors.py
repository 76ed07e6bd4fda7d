"""What this room raises. Standard library only, so that any process may import it.

AeModelsError
├── SpecError       a sentence, score, threshold or training setting that cannot be
├── BundleError     a bundle that is incomplete, altered or of an unknown format
└── TrainingError   a training that cannot go on (loss not finite, no data, foreign checkpoint)
"""


class AeModelsError(Exception):
    """Root of this room's errors; the message says what was given, what is allowed, what to do."""


class SpecError(AeModelsError, ValueError):
    """Every mistake of a specification at once.

    Attributes:
        mistakes: one line a mistake, in the order they were found.
    """

    def __init__(self, mistakes: list[str]) -> None:
        self.mistakes = list(mistakes)
        super().__init__("\n".join(self.mistakes))


class BundleError(AeModelsError):
    """A bundle on disk that must not be used."""


class TrainingError(AeModelsError):
    """A training that cannot go on."""
