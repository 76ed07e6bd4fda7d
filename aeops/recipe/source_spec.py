"""What the settings of every source have in common. Standard library only."""

from typing import ClassVar

from ae_models.spec import InputSpec


class SourceSpec:
    """Interface of a source for the reader of recipes.

    Attributes:
        kind: the name in a recipe.
        input_kinds: the kinds of input that the source has.
        own_test: whether it comes with a test part of its own.
        is_tiled: whether its samples are tiles of pages, by its `core` and `margin`.
        has_masks: whether each image has a mask of its defects.
    """

    kind: ClassVar[str]
    input_kinds: ClassVar[tuple[str, ...]]
    own_test: ClassVar[bool] = False
    is_tiled: ClassVar[bool] = False
    has_masks: ClassVar[bool] = False

    @property
    def id_column(self) -> str:
        """The column that names the rows of a file; empty where the source has none."""
        return ""

    def check_input(self, input_spec: InputSpec) -> list[tuple[str, str]]:
        """Return (path in the recipe, reason) for each setting of the section input that the source does not support."""
        return []

    def complete_input(self, input_spec: InputSpec) -> InputSpec:
        """Return the section input with what the source says of its cells, so that a bundle takes those of clients alike."""
        return input_spec

    def check_labels(self, labels: tuple[int, ...]) -> list[str]:
        """Return a message for each reason why data.labels do not go with the source."""
        return []


def check_both_labelled(labels: tuple[int, ...], source_labels: object) -> list[str]:
    """Return a message where only one of data.labels and data.source.labels is set."""
    if bool(labels) == bool(source_labels):
        return []
    reason = "a labelled dataset needs both, an unlabelled one neither"
    if labels:
        return [f"labels is set and source.labels is missing: {reason}"]
    return [f"source.labels is set and labels is missing: {reason}"]
