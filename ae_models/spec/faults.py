"""Names of the standard faults of each kind of input; what they do stands in ae_models/faults.py."""

from ae_models.spec.inputs import IMAGE, SERIES, TABLE, TEXT

__all__ = ["FAULT_NAMES"]

FAULT_NAMES: dict[str, tuple[str, ...]] = {
    IMAGE: ("cut-and-paste", "scratch", "blur", "occlusion", "foreign-patch", "brightness", "rotation"),
    SERIES: ("spike", "level-shift", "drift", "stuck", "changed-frequency", "lost-channel"),
    TABLE: ("permuted", "swapped", "scaled", "out-of-range", "gone-missing", "frozen"),
    TEXT: ("words-replaced", "words-shuffled", "foreign-text"),
}
