"""Figures of lines and points. Each function writes one SVG file."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import PathPatch
from matplotlib.path import Path as MplPath
from matplotlib.ticker import LogLocator, NullLocator
from sklearn.decomposition import PCA as PrincipalAxes
from sklearn.metrics import precision_recall_curve, roc_curve
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from aeops.drawing.palette import (
    FOREST_COLOUR,
    GRID_COLOUR,
    HULL_COLOUR,
    KNN_COLOUR,
    LABEL_COLOURS,
    MODEL_COLOUR,
    MUTED_COLOUR,
    NOVELTY_COLOUR,
    PAPER_COLOUR,
    PCA_COLOUR,
    TEXT_COLOUR,
)
from aeops.drawing.style import REPORT_WIDTH, svg_axes
from aeops.evaluation.sampling import even_indices
from aeops.recipe.metric_names import ISOLATION_FOREST, KNN, MODEL_DETECTOR, PCA_RESIDUAL


class DetectorStyle(NamedTuple):
    """How a detector is drawn: its name in the legend, its colour and its kind of line."""

    name: str
    colour: str
    dashes: str | tuple[float, tuple[float, float]] = "solid"


DETECTOR_STYLES = {
    MODEL_DETECTOR: DetectorStyle("model", MODEL_COLOUR),
    PCA_RESIDUAL: DetectorStyle("PCA residual", PCA_COLOUR),
    KNN: DetectorStyle("kNN distance", KNN_COLOUR),
    "local_hull_10": DetectorStyle("hull-10 residual", HULL_COLOUR, (0, (3, 2))),
    "local_hull_20": DetectorStyle("hull-20 residual", HULL_COLOUR),
    ISOLATION_FOREST: DetectorStyle("IsolationForest", FOREST_COLOUR, (0, (1, 2))),
}
BASELINE_WIDTH = 1.2  # points, so that the model's line stands out
POWER_COLUMNS = 4  # panels in a row; the first that is free holds the legend
LEAST_SHARE_BETWEEN = 0.1  # of the variance on a map of codes that lies between labels: below, the clouds are one
CURVE_POINTS = 400  # more than a screen can tell apart, few enough for a small file
DOT_WIDTH = 3.6  # points across
MAX_CORRELATED, MAX_NAME = 40, 18  # columns of a picture of correlations, and characters of their names
MAP_NORMALS, MAP_NOVELTY = 900, 250  # points in the map of codes: enough to see where, few enough to see through


@dataclass(frozen=True)
class PowerPanel:
    """The curves of one fault.

    Attributes:
        title: name of the fault.
        unit: of the strengths, such as `of the window`.
        strengths: ascending, (k,).
        shares: detector -> share caught at each strength, (k,); None where the fault changed no sample.
        intervals: 95 % of the model's shares, (k,); likewise.
    """

    title: str
    unit: str
    strengths: Sequence[float]
    shares: Mapping[str, Sequence[float | None]]
    intervals: Sequence[tuple[float, float] | None]


def draw_training(file: Path, history: pd.DataFrame, pca_mse: float | None, error: str) -> None:
    """Draw loss and validation error over the epochs, side by side as they may have different units.

    Args:
        file: the SVG file to write.
        history: epoch, train_loss, validation_error.
        pca_mse: error of PCA on the test normals, as a dotted line beside the validation error; None: no line.
        error: name of the validation error.
    """
    with svg_axes(file, REPORT_WIDTH, 3.1, columns=2) as [loss, validation]:
        loss.plot(history["epoch"], history["train_loss"], color=MUTED_COLOUR)
        loss.set(xlabel="epoch", title="training loss")
        validation.plot(history["epoch"], history["validation_error"], color=MODEL_COLOUR, label="model")
        validation.set(xlabel="epoch", title=f"validation: {error}")
        if pca_mse is not None:
            validation.axhline(pca_mse, color=PCA_COLOUR, linestyle=(0, (2, 2)), linewidth=1.2, label="PCA on test normals")
            validation.legend(loc="upper right")
        for axes, name in ((loss, "train_loss"), (validation, "validation_error")):
            if (history[name] > 0).all():  # a loss with a critic in it may fall below
                _set_log_scale(axes)


def _set_log_scale(axes: Axes) -> None:
    axes.set(yscale="log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:.3g}")
    axes.yaxis.set_minor_locator(NullLocator())


def draw_histogram(file: Path, score: np.ndarray, novelty: np.ndarray, threshold: float, *, has_labels: bool = True) -> None:
    """Draw the shares of normals and novelty over the score, and the threshold; without labels no sample is called normal."""
    normal_name = "normal" if has_labels else "test samples"
    edges = np.linspace(score.min(), score.max(), 61)
    with svg_axes(file, REPORT_WIDTH, 3.3) as [axes]:
        for name, colour, of_kind in ((normal_name, MODEL_COLOUR, ~novelty), ("novelty", NOVELTY_COLOUR, novelty)):
            if not of_kind.any():
                continue
            share = np.histogram(score[of_kind], edges)[0] / of_kind.sum()
            axes.stairs(share, edges, fill=True, color=colour, alpha=0.22)
            axes.stairs(share, edges, color=colour, linewidth=1.4, label=f"{name} ({of_kind.sum():,})")
        axes.axvline(threshold, color=TEXT_COLOUR, linewidth=1.2, linestyle=(0, (4, 2)), label=f"threshold {threshold:.4g}")
        axes.set(xlabel="anomaly score", ylabel="share of each kind", ylim=(0, None))
        axes.yaxis.set_major_formatter("{x:.0%}")
        axes.legend(loc="upper left")


def draw_roc(file: Path, scores: dict[str, np.ndarray], novelty: np.ndarray, auroc_values: dict[str, float]) -> None:
    """Draw true against false alarms for every threshold, of each detector in `scores`."""
    with svg_axes(file, REPORT_WIDTH / 2 - 0.2, 4.9) as [axes]:
        axes.plot([0, 1], [0, 1], color=GRID_COLOUR, linewidth=1)
        for key, score in scores.items():
            false_rate, true_rate, _ = roc_curve(novelty, score)
            _draw_detector(axes, key, *_thin_curve(false_rate, true_rate), _value_label(key, auroc_values[key]))
        axes.set(xlabel="share of normals flagged", ylabel="share of novelty flagged")
        _finish_square(axes, "AUROC")


def draw_precision_recall(
    file: Path, scores: dict[str, np.ndarray], novelty: np.ndarray, precision_values: dict[str, float]
) -> None:
    """Draw precision against recall for every threshold, of each detector in `scores`."""
    with svg_axes(file, REPORT_WIDTH / 2 - 0.2, 4.9) as [axes]:
        axes.axhline(novelty.mean(), color=GRID_COLOUR, linewidth=1)
        for key, score in scores.items():
            precision, recall, _ = precision_recall_curve(novelty, score)
            _draw_detector(axes, key, *_thin_curve(recall, precision), _value_label(key, precision_values[key]))
        axes.set(xlabel="recall: share of novelty flagged", ylabel="precision: share of flags that are novelty")
        _finish_square(axes, "average precision")


def draw_power(file: Path, panels: Sequence[PowerPanel], rate: float) -> None:
    """Draw the share caught of each fault over its strengths, a panel a fault.

    Args:
        file: the SVG file to write.
        panels: one or more, of the same detectors.
        rate: of false alarms, drawn as a dotted line: what is caught without any power.
    """
    row_count = -(-(len(panels) + 1) // POWER_COLUMNS)
    with svg_axes(file, REPORT_WIDTH, 2.5 * row_count, POWER_COLUMNS, row_count) as axes:
        for panel_axes, panel in zip(axes, panels, strict=False):
            _draw_power_panel(panel_axes, panel, rate)
        for index in range(0, len(panels), POWER_COLUMNS):
            axes[index].set_ylabel("share caught")
        legend_axes, *empty_axes = axes[len(panels) :]
        legend_axes.legend(*axes[0].get_legend_handles_labels(), loc="center left")
        for unused_axes in (legend_axes, *empty_axes):
            unused_axes.set_axis_off()


def _draw_power_panel(axes: Axes, panel: PowerPanel, rate: float) -> None:
    places = np.arange(len(panel.strengths))
    axes.axhline(rate, color=MUTED_COLOUR, linewidth=1, linestyle=(0, (1, 2)), label="rate of false alarms")
    intervals = np.array([interval or (np.nan, np.nan) for interval in panel.intervals])
    axes.fill_between(places, *intervals.T, color=MODEL_COLOUR, alpha=0.15, linewidth=0)
    for key, shares in panel.shares.items():
        values = np.array(shares, dtype=float)  # None becomes NaN, a gap in the curve
        _draw_detector(axes, key, places, values, DETECTOR_STYLES[key].name, marker=".")
    axes.set(ylim=(-0.02, 1.02), yticks=[0, 0.5, 1], title=panel.title, xlabel=panel.unit)
    axes.set_xticks(places, list(map("{:g}".format, panel.strengths)))
    axes.yaxis.set_major_formatter("{x:.0%}")


def _draw_detector(axes: Axes, key: str, x: np.ndarray, y: np.ndarray, label: str, marker: str = "") -> None:
    """Draw a detector's curve, with its label in the legend; the model's is wider and on top."""
    style = DETECTOR_STYLES[key]
    width, zorder = BASELINE_WIDTH, 2
    if key == MODEL_DETECTOR:
        width, zorder = rcParams["lines.linewidth"], 3
    axes.plot(x, y, color=style.colour, linestyle=style.dashes, linewidth=width, label=label, zorder=zorder, marker=marker)


def _value_label(key: str, value: float) -> str:
    return f"{DETECTOR_STYLES[key].name}  {value:.3f}"


def _finish_square(axes: Axes, legend_title: str) -> None:
    """Set the range from 0 to 1, and put the legend below: a place inside that no curve crosses cannot be known."""
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), xticks=[0, 0.25, 0.5, 0.75, 1], yticks=[0, 0.25, 0.5, 0.75, 1])
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, title=legend_title, alignment="left", title_fontsize=9)


def _thin_curve(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return at most CURVE_POINTS points of a curve, evenly spaced, both ends included."""
    indices = even_indices(len(x), CURVE_POINTS)
    return x[indices], y[indices]


def _shorten_name(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def draw_correlations(file: Path, names: Sequence[str], given: np.ndarray, made: np.ndarray) -> None:
    """Draw the correlations of columns as a mosaic: below the diagonal those of samples, above it those of their reconstructions.

    Args:
        file: the SVG file to write.
        names: of the columns.
        given: (n, columns).
        made: the same of the reconstructions.
    """
    count = min(len(names), MAX_CORRELATED)
    lower, upper = _correlate(given[:, :count]), _correlate(made[:, :count])
    rows, columns = np.indices((count, count))
    values = np.where(rows > columns, lower, upper)
    side = max(3.0, min(REPORT_WIDTH, 1.6 + 0.22 * count))
    pixels = np.where((values > 0)[:, :, np.newaxis], to_rgba(MODEL_COLOUR), to_rgba(NOVELTY_COLOUR))
    pixels[:, :, 3] = np.where(rows == columns, 0, np.abs(values).clip(0, 1))
    with svg_axes(file, side, side) as [axes]:
        axes.grid(False)
        axes.imshow(pixels, interpolation="nearest")  # as a picture: a dot for each pair would take 200 bytes of SVG
        ticks = range(count)
        labels = list(map(_shorten_name, names[:count]))
        axes.set_xticks(ticks, labels, rotation=90, fontsize=7)
        axes.set_yticks(ticks, labels, fontsize=7)
        axes.set(xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5))


def _correlate(values: np.ndarray) -> np.ndarray:
    """Return the correlations of columns, (columns, columns); 0 where one is constant."""
    with np.errstate(invalid="ignore", divide="ignore"):
        correlations = np.atleast_2d(np.corrcoef(values.astype(np.float64), rowvar=False))
    return np.nan_to_num(correlations)


def draw_codes(file: Path, code: np.ndarray, labels: pd.Series, novelty: np.ndarray) -> None:
    """Draw a map of the codes (n, size) on the two leading principal axes of the normal ones, with the novelty.

    Nothing is drawn where the map says nothing: where no group of samples, by label and novelty, lies apart from the others.
    """
    positions, shares = principal_plane(code, ~novelty)
    names = labels.astype("string").fillna("").to_numpy(dtype=str)
    if share_between(positions, np.char.add(names, np.where(novelty, " novelty", ""))) < LEAST_SHARE_BETWEEN:
        return
    with svg_axes(file, REPORT_WIDTH, 6) as [axes]:
        scatter_labels(axes, positions, labels, novelty)
        name_axes(axes, shares)


def scatter_labels(
    axes: Axes, positions: np.ndarray, labels: pd.Series, novelty: np.ndarray, normal_limit: int = MAP_NORMALS
) -> None:
    """Draw points with a colour and a name for each label, novelty as crosses.

    Args:
        axes: to draw on.
        positions: (n, 2).
        labels: (n,), missing for unlabelled samples.
        novelty: bool (n,).
        normal_limit: normal points that are drawn at most.
    """
    for label, colour, indices in _label_groups(labels, ~novelty, normal_limit):
        x, y = positions[indices].T
        _draw_dots(axes, x, y, colour)
        if label:
            _write_label(axes, positions[indices], label, TEXT_COLOUR)
    for label, _, indices in _label_groups(labels, novelty, MAP_NOVELTY):
        x, y = positions[indices].T
        axes.scatter(x, y, s=18, color=NOVELTY_COLOUR, marker="x", linewidths=1, alpha=0.8)
        _write_label(axes, positions[indices], f"{label} (novelty)" if label else "novelty", NOVELTY_COLOUR)
    axes.set(xticks=[], yticks=[])


def _draw_dots(axes: Axes, x: np.ndarray, y: np.ndarray, colour: str) -> None:
    """Draw a dot a point, all in one path: strokes of no length with round ends take a fifth of the bytes of markers."""
    stroke_ends = np.repeat(np.stack([x, y], axis=1), 2, axis=0)
    path = MplPath(stroke_ends, np.tile([MplPath.MOVETO, MplPath.LINETO], len(x)))
    path.should_simplify = False
    axes.add_patch(PathPatch(path, facecolor="none", edgecolor=colour, alpha=0.6, linewidth=DOT_WIDTH, capstyle="round"))
    axes.update_datalim(stroke_ends)
    axes.autoscale_view()


def name_axes(axes: Axes, shares: np.ndarray) -> None:
    """Name the axes of a principal plane, with their shares of the variance (2,)."""
    axes.set(
        xlabel=f"first principal axis: {shares[0]:.0%} of the variance",
        ylabel=f"second principal axis: {shares[1]:.0%} of the variance",
    )


def principal_plane(code: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project codes on the two leading principal axes of the normal ones.

    Args:
        code: (n, size).
        normal: bool (n,).

    Returns:
        Positions (n, 2), and the shares of the normals' variance along the two axes (2,). The second is 0 throughout where
        a code is a single number.
    """
    count = min(2, *code[normal].shape)
    with threadpool_limits(1, "blas"):
        axes = PrincipalAxes(count, random_state=0).fit(code[normal])
        projection = axes.transform(code)
    positions, shares = np.zeros((len(code), 2)), np.zeros(2)
    positions[:, :count] = projection
    shares[:count] = np.nan_to_num(axes.explained_variance_ratio_)  # codes that are all the same have no variance to share
    return positions, shares


def share_between(positions: np.ndarray, groups: np.ndarray) -> float:
    """Return the share of the variance of positions (n, 2) that lies between the means of groups (n,), in [0, 1]."""
    total = np.square(positions - positions.mean(axis=0)).sum()
    if not total:
        return 0.0
    between = 0.0
    for group in np.unique(groups):
        of_group = positions[groups == group]
        between += len(of_group) * float(np.square(of_group.mean(axis=0) - positions.mean(axis=0)).sum())
    return float(between / total)


def _label_groups(labels: pd.Series, mask: np.ndarray, limit: int) -> list[tuple[str, str, np.ndarray]]:
    """Return (label, colour, indices) for each label in a mask (n,), `limit` samples in all; unlabelled ones are one group."""
    indices = np.flatnonzero(mask)
    indices = indices[even_indices(len(indices), limit)]
    names = labels.astype("string").fillna("").to_numpy()[indices]
    groups = []
    for number, name in enumerate(sorted(set(names), key=_label_order)):
        groups.append((name, LABEL_COLOURS[number % len(LABEL_COLOURS)], indices[names == name]))
    return groups


def _label_order(name: str) -> tuple[int, str]:
    return len(name), name


def _write_label(axes: Axes, positions: np.ndarray, text: str, colour: str) -> None:
    """Write a text at the median of the points (n, 2), on a box in the paper's colour so that it can be read."""
    x, y = np.median(positions, axis=0)
    box = {"boxstyle": "round,pad=0.25", "facecolor": PAPER_COLOUR, "edgecolor": GRID_COLOUR, "linewidth": 0.6, "alpha": 0.92}
    axes.text(x, y, text, color=colour, ha="center", va="center", fontweight="bold", fontsize=10, bbox=box)


def draw_counts(file: Path, rows: dict[str, int], labels: pd.Series, novelty: np.ndarray) -> None:
    """Draw the number of samples of each split, and of each label in the test."""
    counts = labels.astype("string").fillna("none").value_counts()
    counts = counts.loc[sorted(counts.index, key=_label_order)]
    novelty_labels = set(labels.astype("string")[novelty])
    with svg_axes(file, REPORT_WIDTH, 2.7, columns=2) as [left, right]:
        split_names = [name.replace("_", " ") for name in rows]
        _draw_bars(left, split_names, list(rows.values()), {"test novelty"})
        left.set_title("samples by split")
        _draw_bars(right, list(map(str, counts.index)), counts.tolist(), novelty_labels)
        right.set_title("test samples by label")


def _draw_bars(axes: Axes, names: list[str], counts: list[int], novelty_names: Collection[str]) -> None:
    """Draw horizontal bars, the first on top, each with its number; those of novelty in its colour."""
    colours = [NOVELTY_COLOUR if name in novelty_names else MODEL_COLOUR for name in names]
    bar_rectangles = axes.barh(range(len(names)), counts, color=colours, height=0.7)
    axes.bar_label(bar_rectangles, labels=list(map("{:,}".format, counts)), padding=4, color=MUTED_COLOUR, fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(0, max(counts) * 1.15), xticks=[])
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
