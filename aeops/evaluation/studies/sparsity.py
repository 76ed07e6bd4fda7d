"""How few numbers of a code are in use, and the error of PCA with as many."""

from pathlib import Path

import numpy as np

from aeops.drawing.palette import GRID_COLOUR, MODEL_COLOUR, MUTED_COLOUR
from aeops.drawing.style import REPORT_WIDTH, svg_axes
from aeops.drawing.words import format_number, format_share
from aeops.evaluation import model_input
from aeops.evaluation.baselines import PcaBaseline
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.kinds.arrays import mse_per_image
from aeops.recipe.studies import SparsityStudy

PCA_ROWS = 20_000  # training samples that PCA is fitted on


def run_sparsity_study(spec: SparsityStudy, context: EvaluationContext, figures: Path) -> StudyResult:
    """Count the numbers in use in the codes of the normal test samples."""
    code = np.abs(context.predictions["code"][context.is_normal])
    active = code > spec.threshold * code.max()  # a threshold of 0 leaves what is not exactly 0
    count = active.sum(axis=1)
    size, numbers = code.shape[1], int(np.prod(context.detector.shape))
    _draw_usage(figures / "sparsity.svg", count / size, np.sort(active.mean(axis=0))[::-1])
    metrics = {
        "code_size": size,
        "input_size": numbers,
        "active_share": float(count.mean() / size),
        "active_share_p95": float(np.percentile(count, 95) / size),
        "active_numbers": float(count.mean()),
        "never_active_share": float((~active.any(axis=0)).mean()),
    }
    mean = f"{metrics['active_numbers']:.1f}"
    rows = [
        ["numbers in a code", f"{size:,} for {numbers:,} of an input ({size / numbers:.2g} times)"],
        ["in use, mean over samples", f"{mean} ({format_share(metrics['active_share'])})"],
        ["in use, 95th percentile", f"{np.percentile(count, 95):.0f} ({format_share(metrics['active_share_p95'])})"],
        ["never in use", format_share(metrics["never_active_share"])],
    ]
    lead = f"Of {size:,} numbers in a code {mean} are in use for a sample, {format_share(metrics['active_share'])}."
    pca_comparison = _compare_with_pca(context, max(1, round(metrics["active_numbers"])))
    if pca_comparison:
        pca, model, components = pca_comparison["pca_mse"], pca_comparison["mse"], pca_comparison["pca_components"]
        rows.append(["MSE", f"{format_number(model, 5)}; PCA with as many numbers ({components}): {format_number(pca, 5)}"])
        gain = pca_comparison["gain_over_pca"]
        direction = "below" if gain >= 0 else "above"
        lead += f" Its error is {format_share(abs(gain))} {direction} that of PCA with as many."
    note = "In use: not 0."
    if spec.threshold != 0:
        note = f"In use: above {spec.threshold:g} of the largest number in any code, by its size."
    return StudyResult(
        title="Sparsity",
        lead=lead,
        head=["codes of normal test samples", ""],
        rows=rows,
        figures=[("sparsity.svg", "Share of a code in use, over samples; and in how many samples each number is in use.")],
        metrics=metrics | pca_comparison,
        note=note,
    )


def _compare_with_pca(context: EvaluationContext, components: int) -> dict[str, float]:
    """Return the errors of the model and of PCA with so many numbers; empty where PCA cannot output the target of an input."""
    source, normal = context.recipe.fit.input, context.is_normal
    train = context.data.train[:PCA_ROWS]
    if context.detector.shape != context.detector.output_shape or components > min(_flatten_samples(train).shape):
        return {}
    kind, spec = context.detector.data_kind, context.detector.spec
    train_baseline = kind.baseline(model_input.clean_inputs(source, train), spec)
    test_baseline = kind.baseline(context.inputs[normal], spec)
    if train_baseline.vectors is None or test_baseline.vectors is None:
        return {}
    pca = PcaBaseline.fit(train_baseline.vectors, components)
    pca_outputs = pca.reconstruct(test_baseline.vectors).clip(0, 1)
    error = float(mse_per_image(_flatten_samples(context.target[normal]), pca_outputs).mean())
    model = float(mse_per_image(context.target[normal], context.reconstructions[normal]).mean())
    return {"mse": model, "pca_components": components, "pca_mse": error, "gain_over_pca": 1 - model / error}


def _flatten_samples(samples: np.ndarray) -> np.ndarray:
    return samples.reshape(len(samples), -1)


def _draw_usage(file: Path, shares: np.ndarray, usage: np.ndarray) -> None:
    """Draw shares of a code in use, over samples (left), and the share of samples that use each number, falling (right)."""
    with svg_axes(file, REPORT_WIDTH, 2.9, columns=2) as [left, right]:
        counts, edges = np.histogram(shares, bins=30, range=(0, min(1.0, 1.25 * float(shares.max())) or 1.0))
        left.stairs(counts / len(shares), edges, fill=True, color=MODEL_COLOUR, alpha=0.5)
        left.axvline(float(shares.mean()), color=MUTED_COLOUR, linestyle=(0, (4, 2)), linewidth=1.2)
        left.set(xlabel="share of the code in use", title="samples")
        left.xaxis.set_major_formatter("{x:.2%}" if shares.max() < 0.05 else "{x:.0%}")
        left.yaxis.set_major_formatter("{x:.0%}")
        right.fill_between(np.arange(1, len(usage) + 1), usage, color=MODEL_COLOUR, alpha=0.5, linewidth=0, step="mid")
        right.axhline(float(usage.mean()), color=GRID_COLOUR, linewidth=1)
        right.set(xlabel="number of the code, most used first", title="share of samples that use it", ylim=(0, None))
        right.yaxis.set_major_formatter("{x:.0%}")
