"""The picture of a sweep: parallel coordinates. An axis for each key and one for the metric, a line for each trial."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from aeops.drawing.palette import GRID_COLOUR, MODEL_COLOUR, MUTED_COLOUR, NOVELTY_COLOUR, TEXT_COLOUR
from aeops.drawing.style import svg_axes
from aeops.sweeps.axes import BY_ERROR
from aeops.sweeps.outcome import BEST, FAILED, SweepOutcome, TrialOutcome
from aeops.sweeps.words import METRIC_NAMES, value_text

COLUMN_WIDTH, LEFT_WIDTH, HEIGHT = 1.75, 1.6, 3.4  # inches
MAX_TICK_TEXT = 14  # characters of a value
SPREAD = 0.05  # of an axis' height, over which trials with the same value lie


def draw_sweep(file: Path, outcome: SweepOutcome) -> None:
    """Write the picture of a sweep; trials without any value are left out, unless they have failed."""
    trials = [trial for trial in reversed(outcome.ranking) if trial.values or trial.state == FAILED]
    places = _key_places(outcome, trials)
    metric_places, ticks = _metric_places(outcome, trials)
    columns = len(places) + 1
    with svg_axes(file, LEFT_WIDTH + COLUMN_WIDTH * columns, HEIGHT) as [axes]:
        for column, axis in enumerate(outcome.plan.axes):
            texts = _texts(outcome, axis.key)
            labels = {}
            for index, text in enumerate(texts):
                labels[_level(index, len(texts))] = text
            _draw_axis(axes, column, axis.key, labels)
        direction = "lower is better" if outcome.plan.metric == BY_ERROR else "higher is better"
        _draw_axis(axes, columns - 1, f"{METRIC_NAMES[outcome.plan.metric]}\n{direction}", ticks)
        for trial in trials:
            heights = [places[axis.key][trial.trial.number] for axis in outcome.plan.axes]
            if trial.trial.number in metric_places:
                heights.append(metric_places[trial.trial.number])
            _draw_line(axes, heights, trial, len(outcome.plan.rungs))
        axes.set_xlim(-0.35, columns - 1 + 0.55)
        axes.set_ylim(-0.2, 1.22)
        axes.set_axis_off()


# ---------------------------------------------------------------- heights


def _values(outcome: SweepOutcome, key: str) -> list[object]:
    """Return the values of a key from the lowest: those that are tried, and the recipe's own."""
    axis = next(axis for axis in outcome.plan.axes if axis.key == key)
    values = list(axis.values)
    own = outcome.plan.trials[0].settings[key]
    if own is not None and own not in values:
        values.append(own)
    if all(isinstance(value, int | float) for value in values):
        values.sort(key=float)
    return values


def _texts(outcome: SweepOutcome, key: str) -> list[str]:
    texts = []
    for value in _values(outcome, key):
        text = value_text(value)
        texts.append(text if len(text) <= MAX_TICK_TEXT else f"{text[: MAX_TICK_TEXT - 3]}...")
    return texts


def _level(index: int, count: int) -> float:
    return index / max(1, count - 1)


def _key_places(outcome: SweepOutcome, trials: Sequence[TrialOutcome]) -> dict[str, dict[int, float]]:
    """Return the height of each trial on each key's axis; the trials of one value lie side by side, the best in the middle."""
    places: dict[str, dict[int, float]] = {}
    for axis in outcome.plan.axes:
        values = _values(outcome, axis.key)
        by_value: dict[int, list[int]] = {}
        for trial in trials:
            value = trial.trial.settings[axis.key]
            if value in values:
                by_value.setdefault(values.index(value), []).append(trial.trial.number)
        heights = {}
        for index, numbers in by_value.items():
            for place, number in enumerate(sorted(numbers)):
                offset = (place - (len(numbers) - 1) / 2) / max(1, len(trials) - 1)
                heights[number] = _level(index, len(values)) + SPREAD * 2 * offset
        places[axis.key] = {}
        for trial in trials:
            places[axis.key][trial.trial.number] = heights.get(trial.trial.number, -0.1)
    return places


def _metric_places(outcome: SweepOutcome, trials: Sequence[TrialOutcome]) -> tuple[dict[int, float], dict[float, str]]:
    """Return the height of each trial on the metric's axis, the best on top, and the texts at its ends and its middle."""
    values = {}
    for trial in trials:
        if trial.values:
            values[trial.trial.number] = trial.values[-1]
    if not values:
        return {}, {}
    low, high = min(values.values()), max(values.values())
    worst, best = (high, low) if outcome.plan.metric == BY_ERROR else (low, high)
    if best == worst:
        return dict.fromkeys(values, 1.0), {1.0: f"{best:.4g}"}
    heights = {number: (value - worst) / (best - worst) for number, value in values.items()}
    return heights, {share: f"{worst + share * (best - worst):.4g}" for share in (0.0, 0.5, 1.0)}


# ---------------------------------------------------------------- lines


def _draw_axis(axes: Axes, column: int, title: str, labels: Mapping[float, str]) -> None:
    axes.plot([column, column], [-0.05, 1.05], color=GRID_COLOUR, linewidth=1.2, zorder=1)
    for height, text in labels.items():
        axes.annotate(
            text,
            (column, height),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=MUTED_COLOUR,
            fontsize=8,
            zorder=4,
            bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.6},
        )
    axes.text(column, 1.12, title, ha="center", va="bottom", color=TEXT_COLOUR, fontsize=8.5)


def _draw_line(axes: Axes, heights: Sequence[float], trial: TrialOutcome, rungs: int) -> None:
    """Draw a trial: the best one blue, the recipe as it is dashed, failed ones vermillion, the fainter the earlier it stopped."""
    style = {"color": MUTED_COLOUR, "linewidth": 1.1, "alpha": 0.25 + 0.5 * len(trial.values) / rungs, "zorder": 2.0}
    if trial.state == FAILED:
        style |= {"color": NOVELTY_COLOUR, "alpha": 0.9}
    if trial.trial.number == 0:
        style |= {"linestyle": (0, (4, 2)), "color": TEXT_COLOUR, "alpha": 0.9, "zorder": 3.0}
    if trial.state == BEST:
        style |= {"color": MODEL_COLOUR, "linewidth": 2.4, "alpha": 1.0, "zorder": 3.5}
    axes.plot(range(len(heights)), heights, marker="o", markersize=3, **style)  # type: ignore[arg-type]
