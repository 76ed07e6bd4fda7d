"""What a sweep trains, known before anything starts: its keys and values, its trials, its rungs, its workers, and its picture."""

import argparse
import itertools
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from checkout import ROOT

from aeops.bundle.detector import usable_cores
from aeops.cli.main import build_parser
from aeops.cli.sweep import METRIC_CHOICES
from aeops.data.stage_runs import StageCommand
from aeops.errors import InternalError, TransientError, UsageError
from aeops.places.pool import MAX_STARTS, Job, choose_workers, run_jobs
from aeops.project import Project
from aeops.recipe.reader import load_recipe
from aeops.sweeps.axes import METRICS, Axis, parse_axes
from aeops.sweeps.outcome import BEST, FAILED, STOPPED, SweepOutcome, TrialOutcome, best_settings, to_document
from aeops.sweeps.picture import draw_sweep
from aeops.sweeps.plan import FULL_TRIALS, SweepOptions, SweepPlan, choose_combinations, plan_rungs, plan_sweep

RATES, SIZES = "train.learning_rate=1e-3,0.003,0.01", "model.bottleneck.size=8,16,32"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "recipes").mkdir()
    for name in ("digits", "news-text", "mnist-denoise"):
        shutil.copy(ROOT / "recipes" / f"{name}.yaml", tmp_path / "recipes")
    return Project(tmp_path, tmp_path / ".ae")


def planned(project: Project, *over: str, recipe: str = "digits", **options: object) -> SweepPlan:
    return plan_sweep(project, load_recipe(project, recipe), parse_axes(over), SweepOptions(**options))  # type: ignore[arg-type]


def refusal(project: Project, *over: str, recipe: str = "digits", **options: object) -> list[str]:
    with pytest.raises(UsageError) as caught:
        planned(project, *over, recipe=recipe, **options)
    return str(caught.value).splitlines()


# ---------------------------------------------------------------- keys and values


def test_values_are_read_as_yaml_and_a_list_is_one_value() -> None:
    assert parse_axes([RATES])[0] == Axis("train.learning_rate", (0.001, 0.003, 0.01))
    assert parse_axes(["model.encode.widths=[8,16],[16, 32]"])[0].values == ([8, 16], [16, 32])
    assert parse_axes(["model.corrupt.kind=none,noise"])[0].values == ("none", "noise")


def test_every_mistake_in_what_is_typed_is_said_at_once() -> None:
    typed = ["train.epochs=3", "a", "train.batch=1,1.0", "train.batch=", SIZES, SIZES]
    with pytest.raises(UsageError) as caught:
        parse_axes(typed)
    message = str(caught.value)
    assert (
        "train.epochs: expected two or more values, got 3: for a single one type `ae run RECIPE --set train.epochs=3`" in message
    )
    assert "expected KEY=VALUE,VALUE,..., such as model.bottleneck.size=8,16,32, got 'a'" in message
    assert "train.batch: expected different values, got 1.0 twice" in message
    assert "train.batch: expected two or more values, got none" in message
    assert "--over model.bottleneck.size: expected one --over with all of its values, got 2" in message
    with pytest.raises(UsageError, match="got none"):
        parse_axes([])


def test_values_that_no_recipe_may_have_are_named_once_each_with_the_near_match(project: Project) -> None:
    lines = refusal(project, "train.learning_rate=0.001,99", "model.botleneck.size=4,8")
    assert len(lines) == 2
    assert "unexpected key 'botleneck'" in lines[0]
    assert "did you mean bottleneck?" in lines[0]
    assert "train.learning_rate: expected 1e-08 to 10, got 99" in lines[1]


@pytest.mark.parametrize(
    ("recipe", "metric", "over", "reason"),
    [
        ("digits", "error", "train.seed=1,2", "ae seeds"),
        ("digits", "power", "train.threads=1,2", "--threads"),
        ("digits", "separation", "threshold.false_alarm_rate=0.01,0.05", "expected a key of model, train"),
        ("digits", "separation", "data.split.test=0.1,0.2", "expected a key of model, train"),
        ("digits", "error", "score.choose=all,by-power", "no reconstruction depends on the score, so type --by separation"),
        ("mnist-denoise", "error", "model.corrupt.std=0.1,0.5", "less of it makes every error smaller"),
        ("news-text", "error", "model.encode.vocabulary=1000,4096", "other tokens make it another measure"),
    ],
)
def test_a_key_whose_values_the_metric_cannot_compare_is_refused(
    recipe: str, metric: str, over: str, reason: str, project: Project
) -> None:
    [line] = refusal(project, over, recipe=recipe, metric=metric)
    assert reason in line


def test_a_recipe_that_detects_is_compared_by_separation_and_another_by_its_error(project: Project) -> None:
    assert planned(project, RATES).metric == "separation"
    assert planned(project, RATES, recipe="news-text").metric == "error"


# ---------------------------------------------------------------- trials and rungs


@pytest.mark.slow
def test_a_grid_that_fits_is_trained_whole_and_a_larger_one_is_drawn_by_its_seed_alone(project: Project) -> None:
    whole = planned(project, RATES, SIZES)
    assert [dict(trial.settings) for trial in whole.trials[1:]] == [
        {"train.learning_rate": rate, "model.bottleneck.size": size}
        for rate, size in itertools.product((0.001, 0.003, 0.01), (8, 16, 32))
    ]
    assert (whole.seed, whole.trials[0].settings["train.learning_rate"]) == (None, 0.006)
    axes = [Axis(name, tuple(range(10))) for name in "abcdefgh"]
    drawn = choose_combinations(axes, 20, seed=3)
    assert drawn == choose_combinations(axes, 20, seed=3) != choose_combinations(axes, 20, seed=4)
    assert len({tuple(settings.items()) for settings in drawn}) == 20


def test_the_recipe_as_it_is_is_trained_once_though_it_is_among_the_combinations(project: Project) -> None:
    plan = planned(project, "train.learning_rate=0.003,0.006")
    assert [trial.settings["train.learning_rate"] for trial in plan.trials] == [0.006, 0.003]
    assert plan.trials[0].text == project.recipe_file("digits").read_text()
    threads = planned(project, "train.learning_rate=0.003,0.006", threads=1)
    assert [trial.recipe.fit.train.threads for trial in threads.trials] == [1, 1]
    assert "threads" not in threads.trials[1].text  # what the recipe becomes


@pytest.mark.parametrize(("trials", "epochs", "expected"), [(20, 50, [20, 7, 3]), (9, 50, [9, 3]), (3, 50, [3]), (20, 2, [20])])
def test_each_rung_keeps_a_third_and_trains_three_times_as_long(trials: int, epochs: int, expected: list[int]) -> None:
    rungs = plan_rungs(trials, epochs)
    assert [rung.keep for rung in rungs] == expected
    assert [round(rung.share * 3 ** (len(rungs) - 1 - place), 9) for place, rung in enumerate(rungs)] == [1] * len(rungs)


def test_options_out_of_range_are_said_with_the_keys(project: Project) -> None:
    lines = refusal(project, "train.seed=1,2", trials=1, seed=-1, threads=0)
    assert [line.partition(":")[0] for line in lines] == ["--trials", "--seed", "--threads", "--over train.seed"]


# ---------------------------------------------------------------- the pool


class Pretended:
    """A command that takes a few polls, and how often each was started; an exception is its end."""

    def __init__(self, ends: dict[str, list[Exception | None]]) -> None:
        self.ends, self.started, self.at_work, self.most = ends, list[str](), 0, 0

    def start(self, command: StageCommand) -> "Pretended.Process":
        [name] = command.arguments
        self.started.append(name)
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        return self.Process(self, name)

    class Process:
        def __init__(self, place: "Pretended", name: str) -> None:
            self.place, self.name, self.polls, self.is_open = place, name, 1, True

        def is_running(self) -> bool:
            self.polls -= 1
            return self.polls >= 0

        def wait(self) -> str:
            end = self.place.ends[self.name].pop(0) if self.name in self.place.ends else None
            if end is not None:
                raise end
            return ""

        def close(self) -> None:
            self.place.at_work -= self.is_open
            self.is_open = False


def jobs(names: Sequence[str], tmp_path: Path) -> list[Job]:
    return [Job(name, (StageCommand((name,), tmp_path, tmp_path, tmp_path / "log"),)) for name in names]


def test_a_trial_that_fails_by_itself_leaves_the_others_alone_and_a_killed_one_starts_again(tmp_path: Path) -> None:
    killed = TransientError("was killed by signal 9")
    place = Pretended({"b": [UsageError("the loss is nan")], "c": [killed, killed, None]})
    result = run_jobs(jobs("abcd", tmp_path), place.start, workers=2, deadline=None)
    assert result.failures == {"b": "the loss is nan"}
    assert sorted(place.started) == ["a", "b", "c", "c", "c", "d"]
    assert (place.most, place.at_work) == (2, 0)


@pytest.mark.parametrize("ends", [[InternalError("a fault")], [TransientError("killed")] * MAX_STARTS])
def test_a_fault_ends_the_sweep_and_what_is_at_work(ends: list[Exception | None], tmp_path: Path) -> None:
    place = Pretended({"b": ends})
    with pytest.raises((InternalError, TransientError)):
        run_jobs(jobs("ab", tmp_path), place.start, workers=2, deadline=None)
    assert place.at_work == 0


def test_no_trial_starts_after_the_deadline(tmp_path: Path) -> None:
    place = Pretended({})
    result = run_jobs(jobs("ab", tmp_path), place.start, workers=2, deadline=time.monotonic() - 1)
    assert (result.not_started, place.started) == (["a", "b"], [])


def test_trainings_side_by_side_have_a_core_for_each_thread() -> None:
    cores = usable_cores()
    assert choose_workers(None, threads=1, cores=cores) == cores
    assert choose_workers(None, threads=cores + 1, cores=cores) == 1
    with pytest.raises(UsageError, match=f"expected at most 1, as a training has {cores} threads"):
        choose_workers(2, threads=cores, cores=cores)
    with pytest.raises(UsageError, match="expected 1 or more"):
        choose_workers(0, threads=1, cores=cores)


# ---------------------------------------------------------------- table and picture


def test_the_table_ranks_by_the_last_rung_and_the_picture_has_a_line_for_each_trial(project: Project, tmp_path: Path) -> None:
    plan = planned(project, RATES, "model.encode.widths=[8,16],[16,32]", metric="error", halving=True)
    outcomes = [TrialOutcome(trial, [6, 17], [0.02, 0.011 + trial.number / 1000], "trained") for trial in plan.trials]
    outcomes[2].state, outcomes[2].values = BEST, [0.02, 0.01]
    outcomes[3] = TrialOutcome(plan.trials[3], [6], [0.005], STOPPED)
    outcomes[4] = TrialOutcome(plan.trials[4], [6], [], FAILED, "the loss is nan")
    outcome = SweepOutcome(plan, outcomes, is_complete=True)
    assert [trial.trial.number for trial in outcome.ranking] == [2, 0, 1, 5, 6, 3, 4]
    assert best_settings(outcome) == plan.trials[2].settings
    document = to_document(outcome)
    assert (document["best"], document["trials"][-1]["reason"]) == (2, "the loss is nan")
    picture = tmp_path / "sweep.svg"
    draw_sweep(picture, outcome)
    svg = picture.read_text()
    assert [
        text for text in ("train.learning_rate", "model.encode.widths", "0.003", "[8, 16]", "lower is better") if text not in svg
    ] == []
    assert len(re.findall(r"stroke: #0072b2", svg)) >= 1
    first = picture.read_bytes()
    draw_sweep(picture, outcome)
    assert picture.read_bytes() == first


# ---------------------------------------------------------------- the command line


@pytest.mark.slow
def test_the_command_line_offers_what_the_plan_knows() -> None:
    arguments = build_parser().parse_args(["sweep", "digits", "--over", RATES])
    assert (METRIC_CHOICES, arguments.trials, arguments.seed) == (METRICS, SweepOptions().trials, SweepOptions().seed)
    assert (arguments.by, arguments.halving, arguments.threads, arguments.workers) == (None, None, None, None)
    halving = next(action for action in sweep_actions() if action.dest == "halving")
    assert f"more than {FULL_TRIALS} trials" in str(halving.help)


def sweep_actions() -> list[argparse.Action]:
    commands = next(action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    return list(commands.choices["sweep"]._actions)
