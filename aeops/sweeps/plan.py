"""What a sweep trains: its trials, and the rungs of successive halving. All of it is known, and checked, before anything starts.

A trial is the recipe with one value for each key. Where the grid of all values is larger than the number of trials, a seed draws
them. Trial 0 is the recipe as it is: no other one is chosen unless it is better.
"""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ae_models.spec import format_value
from aeops.errors import UsageError
from aeops.machine.scratch import ScratchFolder
from aeops.project import Project
from aeops.recipe.default_rules import DETECT
from aeops.recipe.edit import with_settings
from aeops.recipe.reader import Recipe, read_recipe
from aeops.sweeps.axes import BY_ERROR, BY_SEPARATION, METRICS, Axis, axis_mistakes, current_value

DEFAULT_TRIALS, MAX_TRIALS = 20, 200
FULL_TRIALS = 9  # up to so many are all trained to the end, unless halving is asked for
HALVING_FACTOR = 3  # of the trials of a rung, one in so many goes to the next, which trains so many times longer
MAX_COMBINATIONS = 10**12
MAX_MISTAKES = 30  # in a message


@dataclass(frozen=True)
class Trial:
    """A recipe with one value for each key.

    Attributes:
        number: 0 is the recipe as it is.
        settings: key -> value, as they would be written to the recipe.
        text: of the recipe's file with them.
        recipe: that text, read; with the sweep's number of threads, if it sets one.
        trained_text: of the file that its trainings read.
    """

    number: int
    settings: Mapping[str, Any]
    text: str
    recipe: Recipe
    trained_text: str


@dataclass(frozen=True)
class Rung:
    """A round of trainings of one length.

    Attributes:
        share: of the epochs that a trial's recipe asks for.
        keep: how many trials beside trial 0 take part.
    """

    share: float
    keep: int

    def epochs(self, recipe: Recipe) -> int:
        """Return the epochs of a trial in this rung."""
        return max(1, round(recipe.fit.train.total_epochs * self.share))


@dataclass(frozen=True)
class SweepPlan:
    """Everything that decides the table of a sweep.

    Attributes:
        recipe: as it is.
        axes: the keys, and the values to try.
        metric: one of METRICS.
        trials: by their numbers, trial 0 first.
        rungs: one where all trials are trained to the end.
        combinations: of all values.
        seed: that drew the trials; None where they are all combinations.
    """

    recipe: Recipe
    axes: tuple[Axis, ...]
    metric: str
    trials: tuple[Trial, ...]
    rungs: tuple[Rung, ...]
    combinations: int
    seed: int | None

    @property
    def threads(self) -> int:
        """Threads of a training, those of all its workers."""
        train = self.trials[0].recipe.fit.train
        return train.threads * train.workers


@dataclass(frozen=True)
class SweepOptions:
    """What is typed beside the keys.

    Attributes:
        metric: one of METRICS; None: as the recipe's purpose asks for.
        trials: at most so many beside the recipe as it is.
        seed: of the draw.
        halving: None: where there are more than FULL_TRIALS.
        threads: of each training; None: as the recipe says.
    """

    metric: str | None = None
    trials: int = DEFAULT_TRIALS
    seed: int = 0
    halving: bool | None = None
    threads: int | None = None


def plan_sweep(project: Project, recipe: Recipe, axes: Sequence[Axis], options: SweepOptions) -> SweepPlan:
    """Choose the trials and rungs of a sweep.

    Raises:
        UsageError: with every mistake: options out of range, keys that cannot be swept, values that no recipe may have.
    """
    metric = options.metric or (BY_SEPARATION if recipe.purpose == DETECT else BY_ERROR)
    assert metric in METRICS, metric
    text = project.recipe_file(recipe.name).read_text(encoding="utf-8")
    combinations = _count_combinations(axes)
    mistakes = [*_option_mistakes(options, combinations), *axis_mistakes(axes, metric, recipe)]
    _raise_mistakes(mistakes)
    chosen = choose_combinations(axes, options.trials, options.seed)
    trials = _read_trials(recipe, text, chosen, axes, options)
    count = len(trials) - 1
    halving = count > FULL_TRIALS if options.halving is None else options.halving
    rungs = plan_rungs(count, recipe.fit.train.total_epochs) if halving else (Rung(1.0, count),)
    drawn = options.seed if combinations > options.trials else None
    return SweepPlan(recipe, tuple(axes), metric, tuple(trials), rungs, combinations, drawn)


def choose_combinations(axes: Sequence[Axis], limit: int, seed: int) -> list[dict[str, Any]]:
    """Return all combinations of values in their order, or so many of them that a seed draws, in the same order.

    >>> choose_combinations([Axis("a", (1, 2)), Axis("b", (3, 4))], 9, seed=0)
    [{'a': 1, 'b': 3}, {'a': 1, 'b': 4}, {'a': 2, 'b': 3}, {'a': 2, 'b': 4}]
    """
    count = _count_combinations(axes)
    places: Sequence[int] = range(count)
    if count > limit:
        places = sorted(random.Random(seed).sample(range(count), limit))
    return [_combination(axes, place) for place in places]


def _count_combinations(axes: Sequence[Axis]) -> int:
    return math.prod(len(axis.values) for axis in axes)


def _combination(axes: Sequence[Axis], place: int) -> dict[str, Any]:
    indices = []
    for axis in reversed(axes):
        place, index = divmod(place, len(axis.values))
        indices.append(index)
    settings = {}
    for axis, index in zip(axes, reversed(indices), strict=True):
        settings[axis.key] = axis.values[index]
    return settings


def plan_rungs(trials: int, epochs: int) -> tuple[Rung, ...]:
    """Return the rungs of successive halving (Jamieson and Talwalkar 2016), the shortest first.

    Each keeps a third of the trials and trains three times as long, from the start: a short training has the whole course of
    learning rates, and its result is one that a run of so many epochs would have. No rung is planned for fewer than two trials,
    and none that is shorter than an epoch.

    >>> [(round(rung.share, 3), rung.keep) for rung in plan_rungs(20, epochs=50)]
    [(0.111, 20), (0.333, 7), (1.0, 3)]
    """
    counts = [trials]
    while math.ceil(counts[-1] / HALVING_FACTOR) >= 2:
        counts.append(math.ceil(counts[-1] / HALVING_FACTOR))
    shares = [HALVING_FACTOR ** -float(steps) for steps in range(len(counts))][::-1]
    while len(shares) > 1 and epochs * shares[0] < 1:
        del shares[0], counts[-1]
    return tuple(map(Rung, shares, counts))


# ---------------------------------------------------------------- mistakes


def _option_mistakes(options: SweepOptions, combinations: int) -> Iterator[str]:
    if not 2 <= options.trials <= MAX_TRIALS:
        yield f"--trials: expected 2 to {MAX_TRIALS}, got {options.trials}"
    if options.seed < 0:
        yield f"--seed: expected 0 or more, got {options.seed}"
    if options.threads is not None and not 1 <= options.threads <= 1024:
        yield f"--threads: expected 1 to 1024, got {options.threads}"
    if combinations > MAX_COMBINATIONS:
        yield f"--over: expected at most {MAX_COMBINATIONS:,} combinations of values, got {combinations:,}"


def _read_trials(
    recipe: Recipe, text: str, chosen: Sequence[Mapping[str, Any]], axes: Sequence[Axis], options: SweepOptions
) -> list[Trial]:
    """Return trial 0 and the chosen ones, but for one that asks for what the recipe asks for already."""
    base_settings = {axis.key: current_value(recipe, axis.key) for axis in axes}
    trials = [_read_trial(recipe.name, 0, base_settings, text, options)]
    mistakes: dict[str, str] = {}  # each once, with the first settings that make it
    base_fit = trials[0].recipe.fit
    for settings in chosen:
        try:
            new_text = with_settings(text, settings, f"{recipe.name}.yaml")
            trial = _read_trial(recipe.name, len(trials), settings, new_text, options)
        except UsageError as error:
            typed = ", ".join(f"{key}={format_value(value)}" for key, value in settings.items())
            for line in str(error).splitlines():
                mistakes.setdefault(line, f"with {typed}: {line}")
            continue
        if trial.recipe.fit != base_fit:
            trials.append(trial)
    _raise_mistakes(list(mistakes.values()))
    return trials


def _read_trial(name: str, number: int, settings: Mapping[str, Any], text: str, options: SweepOptions) -> Trial:
    trained_text = text
    if options.threads is not None:
        trained_text = with_settings(text, {"train.threads": options.threads}, f"{name}.yaml")
    return Trial(number, dict(settings), text, _read_text(name, trained_text), trained_text)


def _read_text(name: str, text: str) -> Recipe:
    with ScratchFolder() as folder:
        file = Path(folder) / f"{name}.yaml"
        file.write_text(text, encoding="utf-8")
        return read_recipe(file)


def _raise_mistakes(mistakes: Sequence[str]) -> None:
    lines = list(dict.fromkeys(mistakes))
    if len(lines) > MAX_MISTAKES:
        lines = [*lines[:MAX_MISTAKES], f"and {len(lines) - MAX_MISTAKES} more"]
    if lines:
        raise UsageError("\n".join(lines))
