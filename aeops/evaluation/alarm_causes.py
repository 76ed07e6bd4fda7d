"""What causes the alarms of an evaluation, as tables of the report."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from aeops.bundle.explanations import PARTS_UNIT, count_leading_parts, describe_explanation, short_part_name
from aeops.drawing.words import format_share
from aeops.evaluation.sample_blocks import release_pages, rows_of_blocks, sample_values
from aeops.evaluation.study import EvaluationContext, StudyResult

NAMED_ALARMS = 8  # in the table of the strongest alarms
ALARMS_NOTE = (
    "Rows, columns, steps and channels count from 0. Shares are of the squared difference between sample and reconstruction. A "
    "nearest normal sample is named by its row in the bank of training samples that the score holds."
)


def alarm_results(context: EvaluationContext) -> dict[str, StudyResult]:
    """Return what causes the alarms, by the names of their results.

    `parts` says which parts a combined score has, and how often each had the highest value; `alarms` explains the strongest
    alarms. Both are left out where nothing is flagged.
    """
    flagged = np.flatnonzero(context.predictions["is_anomaly"])
    if not len(flagged):
        return {}
    results = {}
    if context.detector.part_names:
        results["parts"] = leading_parts_result(context, flagged)
    order = np.argsort(-context.predictions["score"][flagged], kind="stable")
    results["alarms"] = strongest_alarms_result(context, flagged[order][:NAMED_ALARMS])
    return results


def leading_parts_result(context: EvaluationContext, flagged: np.ndarray) -> StudyResult:
    """Return which parts the score has, and a table of how many flagged samples have their highest value in each."""
    names = context.detector.part_names
    part_scores = _score_parts(context, flagged)
    by_part = count_leading_parts(names, part_scores)
    of_novelty = count_leading_parts(names, part_scores[context.data.novelty[flagged]])
    head, rows, has_labels = ["part", "flagged samples", "share"], [], bool(context.recipe.data.labels)
    if has_labels:
        head += ["of them novelty", "false alarms"]
    for name, count in by_part.most_common():
        row = [short_part_name(name), f"{count:,}", format_share(count / len(flagged))]
        if has_labels:
            row += [f"{of_novelty[name]:,}", f"{count - of_novelty[name]:,}"]
        rows.append(row)
    return StudyResult(
        title="Parts of the score",
        lead=f"{describe_score_parts(names, context.detector.left_out_part_names)} The table counts the {len(flagged):,} flagged "
        "test samples by the part with the highest value.",
        head=head,
        rows=rows,
        figures=[],
        metrics={},
        note=PARTS_UNIT,
    )


def describe_score_parts(names: Sequence[str], left_out_names: Sequence[str]) -> str:
    """Return which parts a combined score has and which parts of the recipe it does not have, in a sentence or two."""
    text = f"The score is made of {_join_part_names(names)}."
    if left_out_names:
        text += f" Left out, by what finds injected faults (docs/scores.md): {_join_part_names(left_out_names)}."
    return text


def _join_part_names(names: Sequence[str]) -> str:
    *first_names, last_name = map(short_part_name, names)
    return f"{', '.join(first_names)} and {last_name}" if first_names else last_name


def _score_parts(context: EvaluationContext, rows: np.ndarray) -> np.ndarray:
    """Return the values of the score's parts for these test samples, (k, parts)."""
    values = sample_values(context.inputs)
    blocks = []
    for block in rows_of_blocks(len(rows), values, context.detector.data_kind.rows_at_once(values)):
        blocks.append(context.detector.score(context.inputs[rows[block]], explanation=True)["part_scores"])
        release_pages(context.inputs)
    return np.concatenate(blocks)


def strongest_alarms_result(context: EvaluationContext, indices: np.ndarray) -> StudyResult:
    """Return a table of flagged samples with the causes of their scores."""
    detector, table = context.detector, context.data.table
    checked = detector.check(context.inputs[indices])
    outputs = detector.score_checked(checked, explanation=True)
    rows = []
    for index, explanation in zip(indices.tolist(), detector.explain(checked.model_input, outputs), strict=True):
        label = table["label"].iloc[index]
        label_text = "" if pd.isna(label) else context.recipe.label_text(label)
        score = f"{context.predictions['score'][index]:.4g}"
        rows.append([str(table["id"].iloc[index]), label_text, score, describe_explanation(explanation)])
    return StudyResult(
        title="The strongest alarms",
        lead="The flagged test samples with the highest scores, and what causes them.",
        head=["sample", "label", "score", "why"],
        rows=rows,
        figures=[],
        metrics={},
        note=ALARMS_NOTE,
    )
