"""How few numbers of a code are in use, and what PCA makes of as many."""

from pathlib import Path

import numpy as np

from aeops.drawing.palette import GRID_COLOUR, MODEL_COLOUR, MUTED_COLOUR
from aeops.drawing.style import REPORT_WIDTH, svg_axes
from aeops.drawing.words import format_number, format_share
from aeops.evaluation import model_input
from aeops.evaluation.detection import PcaBaseline
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.kinds.arrays import mse_per_image
from aeops.recipe.studies import SparsityStudy

PCA_ROWS = 20_000  # training samples that PCA is fitted on


def run_sparsity_study(spec: SparsityStudy, scene: EvaluationContext, figures: Path) -> StudyResult:
    """Counts the numbers in use in the codes of the normal test samples."""
    code = np.abs(scene.predictions["code"][scene.is_normal])
    active = code > spec.threshold * code.max()  # a threshold of 0 leaves what is not exactly 0
    count = active.sum(axis=1)
    size, numbers = code.shape[1], int(np.prod(scene.detector.shape))
    draw(figures / "sparsity.svg", count / size, np.sort(active.mean(axis=0))[::-1])
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
    compared = beside_pca(scene, max(1, round(metrics["active_numbers"])))
    told = ""
    if compared:
        pca, model = compared["pca_mse"], compared["mse"]
        rows.append(["MSE", f"{format_number(model, 5)}; PCA with as many numbers ({compared['pca_components']}): {format_number(pca, 5)}"])
        gain = compared["gain_over_pca"]
        told = f" Its error is {format_share(abs(gain))} {'below' if gain >= 0 else 'above'} that of PCA with as many."
    return StudyResult(
        title="Sparsity",
        lead=f"Of {size:,} numbers in a code {mean} are in use for a sample, {format_share(metrics['active_share'])}.{told}",
        head=["codes of normal test samples", ""],
        rows=rows,
        figures=[("sparsity.svg", "Share of a code in use, over samples; and in how many samples each number is in use.")],
        metrics=metrics | compared,
        note="In use: not 0."
        if spec.threshold == 0
        else f"In use: above {spec.threshold:g} of the largest number in any code, by its size.",
    )


def beside_pca(scene: EvaluationContext, components: int) -> dict[str, float]:
    """The model's error, and that of PCA with so many numbers; nothing where PCA cannot make the target of what is given."""
    source, normal = scene.recipe.fit.input, scene.is_normal
    train = scene.data.train[:PCA_ROWS]
    if scene.detector.shape != scene.detector.made_shape or components > min(flat(train).shape):
        return {}
    kind, spec = scene.detector.data_kind, scene.detector.spec
    fitted, given = kind.baseline(model_input.clean_inputs(source, train), spec), kind.baseline(scene.inputs[normal], spec)
    if fitted.vectors is None or given.vectors is None:
        return {}
    pca = PcaBaseline.fit(fitted.vectors, components)
    made = pca.reconstruct(given.vectors).clip(0, 1)
    error = float(mse_per_image(flat(scene.target[normal]), made).mean())
    model = float(mse_per_image(scene.target[normal], scene.reconstructions[normal]).mean())
    return {"mse": model, "pca_components": components, "pca_mse": error, "gain_over_pca": 1 - model / error}


def flat(samples: np.ndarray) -> np.ndarray:
    return samples.reshape(len(samples), -1)


def draw(file: Path, shares: np.ndarray, usage: np.ndarray) -> None:
    """Left: shares of a code in use, over samples. Right: share of samples in which each number is in use, falling."""
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
