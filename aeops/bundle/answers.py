"""Answers of a scoring service, in the same form for every server of this project."""

from typing import Any

import numpy as np

from ae_models.mappings import drop_keys, map_values
from aeops.kinds.flags import REFUSED, list_flag_names


def to_answers(outputs: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Convert a detector's outputs, arrays (n, ...), to n JSON-ready dicts with the same keys in the same order.

    Flags become lists of names. All other values of a refused sample are None.
    """
    columns = map_values(np.ndarray.tolist, drop_keys(outputs, {"flags"}))
    answers = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    flags = outputs["flags"]
    for index in np.flatnonzero(flags & REFUSED).tolist():
        answers[index] = dict.fromkeys(columns)
    for answer, flag_names in zip(answers, list_flag_names(flags), strict=True):
        answer["flags"] = list(flag_names)
    return answers
