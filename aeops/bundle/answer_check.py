"""Check that a model answers as a scoring service must.

One check for the gate (`check: served`), for a version that takes over in the service, and for a logged MLflow model. A problem
is a phrase with a verb, such as "answers with a score that is not finite".
"""

from collections.abc import Mapping

import numpy as np

from aeops.bundle.detector import Detector

BATCH_TOLERANCE = 1e-4  # relative, between the answers to one sample alone and in a batch


def check_example(detector: Detector) -> str | None:
    """Let a model answer its own example, as a batch and its first sample alone.

    Returns:
        The problem; None if the answers are valid.
    """
    example = detector.example()
    checked = detector.check(example)
    batch = detector.score_checked(checked, reconstruction=True, code=True)
    if problem := check_answers(batch, len(checked.flags)):
        return problem
    single_answer = detector.score(example[0])
    for name in ("score", "p_value", "is_anomaly"):
        if not np.allclose(single_answer[name], batch[name][:1], rtol=BATCH_TOLERANCE):
            return f"answers one sample with {name} {single_answer[name][0]}, but with {batch[name][0]} in a batch"
    return None


def check_answers(outputs: Mapping[str, np.ndarray], count: int) -> str | None:
    """Check the answers to `count` samples.

    Args:
        outputs: `score`, `p_value` where there is one, and any others, each (count, ...).

    Returns:
        The problem; None if there are as many answers as samples, all finite, with p-values in (0, 1].
    """
    for name, values in outputs.items():
        if len(values) != count:
            return f"answers {count} samples with {len(values)} values of {name}"
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            return f"answers with a {name} that is not finite"
    p_values = outputs.get("p_value")
    if p_values is not None and not ((p_values > 0) & (p_values <= 1)).all():
        return "answers with a p-value outside (0, 1]"
    return None
