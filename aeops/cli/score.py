"""`ae score RECIPE FILE`: scores samples with a registered version, records each prediction, and prints a table.

`ae score RECIPE FILE --explain` also says why, for at most 1,024 samples. `ae score RECIPE --inbox` scores the inbox as the flow
`scoring` does, in this process and without Prefect.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ae_models.mappings import select_keys
from aeops.cli.outputs import add_place
from aeops.errors import UsageError
from aeops.registry.aliases import CHAMPION

if TYPE_CHECKING:
    from contextlib import ExitStack

    import numpy as np

    from aeops.bundle.detector import Detector
    from aeops.bundle.false_discovery import Discoveries
    from aeops.kinds.results import Explanation
    from aeops.kinds.samples import CheckedSamples, FileSamples
    from aeops.kinds.series_scores import SeriesScores
    from aeops.predictions.prediction_store import CallName
    from aeops.project import Project
    from aeops.recipe.run_place import RunPlace
    from aeops.scoring.run_summary import InboxSummary

MAX_ROWS = 40  # of the table; it shows the highest scores


def add_command(commands: Any) -> None:
    """Add `ae score` to the commands of the parser."""
    command = commands.add_parser(
        "score",
        help="score an image, a folder of images, a .npy file, rows, readings or texts as the recipe reads them, or the inbox",
    )
    command.add_argument("recipe", help="name of a file in recipes/, such as digits")
    command.add_argument(
        "file",
        type=Path,
        nargs="?",
        help="an image, a folder of images with its subfolders, .npy (one sample or a batch), .txt, .csv or .parquet, or any "
        "file that the recipe's source reads",
    )
    command.add_argument("--inbox", action="store_true", help="score the new files of the recipe's inbox with the champion")
    command.add_argument("--version", default=CHAMPION, help="a version or an alias (default: champion)")
    fdr_help = "also call the anomalies of this batch of which at most a share Q are normal ones (Benjamini and Hochberg)"
    command.add_argument("--fdr", type=float, metavar="Q", help=fdr_help)
    explain_help = "also say why: which part of the score is high, where the error lies, the nearest normal sample"
    command.add_argument("--explain", action="store_true", help=explain_help)
    add_place(command, "shards of a large .npy file")
    shards_help = "at most so many shards of a .npy file, a process for each (default: of 65,536 samples each, for a large file)"
    command.add_argument("--shards", type=int, metavar="COUNT", help=shards_help)
    command.add_argument("--json", action="store_true", help="print every sample as JSON, nothing else")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print score, p-value and flag of each sample, or the result of each file of the inbox; return 0."""
    if arguments.inbox == (arguments.file is not None):
        raise UsageError("expected either a FILE or --inbox: type `ae score RECIPE FILE` or `ae score RECIPE --inbox`")
    if arguments.explain and (arguments.shards is not None or arguments.on is not None):
        raise UsageError("--explain: expected neither --shards nor --on, as at most 1,024 samples are explained: leave them out")
    if arguments.fdr is not None and not 0 < arguments.fdr < 1:
        raise UsageError(f"--fdr: expected a share above 0 and below 1, such as 0.05, got {arguments.fdr:g}")
    if arguments.inbox:
        return run_inbox(arguments)
    return run_file(arguments)


def run_inbox(arguments: argparse.Namespace) -> int:
    """Score the new files of the inbox; return 0, also without a champion, which is a result."""
    from aeops.machine.environment import prepare_environment
    from aeops.project import find_project
    from aeops.recipe.reader import load_recipe
    from aeops.scoring.inbox_run import score_inbox

    if arguments.fdr is not None:
        raise UsageError(
            "--inbox: expected no --fdr, which is about the samples of one FILE: type `ae score RECIPE FILE --fdr Q`"
        )
    if arguments.explain:
        raise UsageError(
            "--inbox: expected no --explain, which is about the samples of one FILE: type `ae score RECIPE FILE --explain`"
        )
    if arguments.shards is not None or arguments.on is not None:
        raise UsageError("--inbox: expected neither --shards nor --on, which are about one large FILE: the inbox is scored here")
    if arguments.version != CHAMPION:
        raise UsageError(f"--inbox: expected no --version, got {arguments.version}: only the champion scores the inbox")
    project = find_project()
    recipe = load_recipe(project, arguments.recipe, with_keys=True)
    prepare_environment(project)
    summary = score_inbox(project, recipe)
    if arguments.json:
        print(json.dumps(summary, indent=2))
    else:
        print_inbox(summary)
    return 0


def print_inbox(summary: "InboxSummary") -> None:
    """Print the result of each file, at most MAX_ROWS, and where to find the rest."""
    from aeops.cli.outputs import open_console
    from aeops.drawing.words import format_count
    from aeops.machine.terminal import escape_line

    console = open_console(soft_wrap=True)
    files = summary["files"]
    lines = []
    for file in files["taken"]:
        line = f"{file['name']}: {format_count(file['samples'], 'sample')}, {file['flagged']:,} flagged"
        if file["unscored"]:
            line += f", {file['unscored']:,} refused"
        lines.append(f"{line} ({file['call']})")
    for refusal in files["refused"]:
        lines.append(f"{refusal['name']}: refused: {refusal['reason']}")
    for name, reason in (*files["copies"].items(), *files["left"].items()):
        lines.append(f"{name}: {reason}")
    for line in lines[:MAX_ROWS]:
        console.print(escape_line(line))
    if len(lines) > MAX_ROWS:
        console.print(f"and {len(lines) - MAX_ROWS} more files")
    console.print(f"{summary['says']}")
    console.print(f"inbox      {summary['inbox']}")
    if summary["page"]:
        console.print(f"page       {summary['page']}")


def run_file(arguments: argparse.Namespace) -> int:
    """Score the samples of a file or folder, record the predictions and print them.

    Returns:
        0, or the exit code of data errors where files of the folder were set aside; the others are scored.

    Raises:
        UsageError: no such recipe, version or file, or more samples than are explained at once.
        DataError: a file that cannot be read, samples that do not fit the model, or none that can be scored.
    """
    from contextlib import ExitStack

    from aeops.bundle.detector import Detector
    from aeops.cli.outputs import report_refused
    from aeops.data.client_files import read_client_file
    from aeops.places.open_place import choose_place
    from aeops.project import find_project
    from aeops.recipe.reader import load_recipe
    from aeops.registry.store import open_store
    from aeops.registry.trust import trusted_bundle

    project = find_project()
    place = choose_place(project, arguments.on)
    recipe = load_recipe(project, arguments.recipe, with_keys=True)
    require_recordable(project, arguments.recipe)
    store = open_store(project)
    bundle = trusted_bundle(project, store, recipe, arguments.version)
    version, detector = bundle.version, Detector(bundle.folder, bundle.sha256)
    samples = read_client_file(recipe, detector, arguments.file)
    with ExitStack() as until_printed:
        scored = score_samples(project, place, detector, samples, arguments, until_printed)
        scores = scored.scores
        detector.require_scored(scores["flags"])
        ids = record_predictions(project, arguments.recipe, version, detector, samples, scores, scored.call)
        discoveries = None
        if arguments.fdr is not None:
            discoveries = find_batch_discoveries(detector, scores, arguments.fdr)
        series = None
        if samples.series is not None:
            from aeops.kinds.series_scores import score_series

            series = score_series(detector, samples.series, scores)
        result = FileResult(arguments.recipe, version, detector, samples, scores, ids, discoveries, scored.checked, series)
        if arguments.json:
            print(result.to_json())
        else:
            print_result(result)
    return report_refused(samples.refused)


@dataclass(frozen=True)
class ScoredSamples:
    """The results of a file's samples.

    Attributes:
        scores: the detector's outputs, each (n, ...).
        checked: the samples as the model took them, for `--explain`; else None.
        call: the name to record them by; None: a new one.
    """

    scores: "dict[str, np.ndarray]"
    checked: "CheckedSamples | None" = None
    call: "CallName | None" = None


def score_samples(
    project: "Project",
    place: "RunPlace",
    detector: "Detector",
    samples: "FileSamples",
    arguments: argparse.Namespace,
    until_printed: "ExitStack",
) -> ScoredSamples:
    """Score a file's samples: those of a large one in shards, whose results stay until `until_printed` ends well."""
    if arguments.explain:
        require_explainable(arguments.file, len(samples.names))
        checked = detector.check(samples.values)
        return ScoredSamples(detector.score_checked(checked, code=True, explanation=True), checked)
    from aeops.scoring.shards import plan_shards, scored_shards

    is_sent_away = arguments.on is not None and not place.is_here
    plan = plan_shards(project, arguments.recipe, detector, arguments.file, samples, arguments.shards, is_sent_away)
    if plan is None:
        return ScoredSamples(detector.score(samples.values, code=True, reconstruction=samples.series is not None))
    from aeops.machine.run_watch import RunWatch

    until_printed.enter_context(RunWatch())
    scores, call = until_printed.enter_context(scored_shards(project, place, plan))
    return ScoredSamples(scores, call=call)


def require_explainable(file: Path, count: int) -> None:
    """Raise UsageError if a file has more samples than are explained at once."""
    from aeops.bundle.explanations import MAX_EXPLAINED_SAMPLES

    if count > MAX_EXPLAINED_SAMPLES:
        raise UsageError(
            f"--explain: expected at most {MAX_EXPLAINED_SAMPLES:,} samples, got {count:,} in {file}: leave --explain out to "
            "find the anomalies, then explain a file of these alone"
        )


def find_batch_discoveries(detector: "Detector", scores: dict[str, "np.ndarray"], share: float) -> "Discoveries":
    """Return the anomalies of one batch of which at most a share are normal, on average over batches."""
    from ae_models.thresholds import read_threshold
    from aeops.bundle.false_discovery import find_discoveries

    return find_discoveries(scores["p_value"], share, read_threshold(detector.bundle["threshold"]).calibration_rows)


def require_recordable(project: "Project", recipe: str) -> None:
    """Require that this user may write where predictions are recorded: every score can be looked up later.

    Raises:
        InfrastructureError: names the folder and how to get one.
    """
    from aeops.errors import InfrastructureError, describe_owner
    from aeops.machine.access import may_write
    from aeops.predictions.recorded_files import predictions_folder

    folder = predictions_folder(project, recipe)
    if not may_write(folder):
        raise InfrastructureError(
            f"every score is recorded in {folder}, where you may not write ({describe_owner(folder)}): ask its owner for access, "
            "or set AE_HOME to a state folder of your own, then type the same command again"
        )


def record_predictions(
    project: "Project",
    recipe: str,
    version: str,
    detector: "Detector",
    samples: "FileSamples",
    scores: dict[str, "np.ndarray"],
    call: "CallName | None",
) -> list[str]:
    """Record the predictions by the name of a call, or a new one; return their ids, one for each sample."""
    from aeops.predictions import prediction_store
    from aeops.predictions.rows import scorer_of
    from aeops.recipe.monitoring import MANUAL_CHANNEL

    batch = detector.data_kind.stored_form(samples.values, detector.spec, is_json=False)
    scorer = scorer_of(recipe, version, detector)
    return prediction_store.record_call(
        project, scorer, channel=MANUAL_CHANNEL, names=samples.names, samples=batch, outputs=scores, name=call
    )


@dataclass(frozen=True)
class FileResult:
    """The scored samples of one file or folder.

    Attributes:
        recipe, version: of the model.
        detector: the model.
        samples: the samples and their names.
        scores: the detector's outputs, each (n, ...).
        ids: the ids of the recorded predictions, one for each sample.
        discoveries: the anomalies that `--fdr` calls; None without it.
        checked: the samples as the model took them, for `--explain`; None without it.
        series: the scores of the series whose windows the samples are; None for other files.
    """

    recipe: str
    version: str
    detector: "Detector"
    samples: "FileSamples"
    scores: "dict[str, np.ndarray]"
    ids: list[str]
    discoveries: "Discoveries | None" = None
    checked: "CheckedSamples | None" = None
    series: "SeriesScores | None" = None

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(self.samples.names)

    def explain(self, rows: "np.ndarray") -> "list[Explanation]":
        """Explain the scores of the samples in these rows; a result of `--explain`."""
        assert self.checked is not None, "only what was checked for --explain is explained"
        outputs = {name: values[rows] for name, values in self.scores.items()}
        return self.detector.explain(self.checked.model_input[rows], outputs)

    def to_json(self) -> str:
        """Return the output of --json: the model, its threshold, every sample and every file that was set aside."""
        import numpy as np

        from aeops.bundle.answers import to_answers
        from aeops.bundle.explanations import describe_explanation, to_json_values

        json_scores = select_keys(self.scores, ("score", "p_value", "is_anomaly", "flags"))
        rows = []
        for prediction_id, name, json_values in zip(self.ids, self.samples.names, to_answers(json_scores), strict=True):
            rows.append({"id": prediction_id, "sample": name} | json_values)
        indent: int | None = 2
        if self.checked is not None:
            indent = None  # residuals and samples have thousands of numbers, which would have a line each
            for row, explanation in zip(rows, self.explain(np.arange(self.count)), strict=True):
                row |= to_json_values(explanation) | {"why": describe_explanation(explanation)}
        document: dict[str, Any] = {
            "recipe": self.recipe,
            "version": self.version,
            "bundle_sha256": self.detector.sha256,
            "threshold": self.detector.bundle["threshold"]["value"],
            "samples": rows,
            "refused": [{"file": name, "reason": reason} for name, reason in self.samples.refused.items()],
        }
        if self.series is not None:
            from aeops.cli.score_series import series_document

            document |= series_document(self.series, self.detector)
            indent = None
        if self.discoveries is not None:
            for row, is_discovery in zip(rows, self.discoveries.is_discovery.tolist(), strict=True):
                row["is_discovery"] = is_discovery
            document["fdr"] = {
                "share": self.discoveries.share,
                "discoveries": self.discoveries.count,
                "cutoff_p_value": self.discoveries.cutoff,
            }
        return json.dumps(document, indent=indent)


def print_result(result: FileResult) -> None:
    """Print the alarms of a series; the samples of other files, and the windows of a series where something is asked of each."""
    from aeops.cli.score_series import print_series

    if result.series is None or result.checked is not None or result.discoveries is not None:
        print_table(result)
    if result.series is not None:
        print_series(result.series, f"{result.recipe} {result.version}")


def print_table(result: FileResult) -> None:
    """Print the samples in their order; of more than MAX_ROWS, those with the highest scores."""
    import numpy as np
    from rich.table import Table
    from rich.text import Text

    from aeops.bundle.explanations import PARTS_UNIT, describe_explanation
    from aeops.cli.outputs import open_console, styled_text
    from aeops.kinds.flags import REFUSED, describe_flags
    from aeops.machine.terminal import escape_line

    scores = result.scores
    title, order = f"{result.recipe} {result.version}", np.arange(result.count)
    if result.count > MAX_ROWS:
        title += f": the {MAX_ROWS} highest scores of {result.count}"
        order = np.argsort(-scores["score"], kind="stable")[:MAX_ROWS]
    table = Table(title=title, title_justify="left")
    table.add_column("sample")
    for name in ("score", "p-value"):
        table.add_column(name, justify="right")
    table.add_column("anomaly?")
    if result.discoveries is not None:
        table.add_column("by --fdr")
    reasons: list[str] = []
    if result.checked is not None:
        table.add_column("why")
        reasons = list(map(describe_explanation, result.explain(order)))
    table.add_column("prediction", no_wrap=True, min_width=max(len(result.ids[index]) for index in order.tolist()))
    for place, index in enumerate(order.tolist()):
        verdict: str | tuple[str, str] = "no"
        if scores["flags"][index] & REFUSED:
            verdict = "refused"
        elif scores["is_anomaly"][index]:
            verdict = ("yes", "bold red")
        reason = ""
        if described := describe_flags(int(scores["flags"][index]) & ~REFUSED):
            reason = f": {described}"
        flag = styled_text(verdict, reason)
        score, p_value = f"{scores['score'][index]:.4f}", f"{scores['p_value'][index]:.4f}"
        cells: list[str | Text] = [escape_line(result.samples.names[index]), score, p_value, flag]
        if result.discoveries is not None:
            cells.append(styled_text(("yes", "bold red") if result.discoveries.is_discovery[index] else "no"))
        if reasons:
            cells.append(escape_line(reasons[place]))
        table.add_row(*cells, result.ids[index])
    console = open_console()
    console.print(table)
    console.print(threshold_line(result))
    if result.discoveries is not None:
        console.print(discovery_line(result.discoveries))
    if "part_scores" in scores:
        console.print(PARTS_UNIT)
    console.print(f"evidence behind a prediction: ae why {result.ids[order[0]]}")


def discovery_line(discoveries: "Discoveries") -> str:
    """Return how many anomalies `--fdr` calls, and what that promises."""
    from aeops.cli.outputs import count_text

    line = (
        f"--fdr {discoveries.share:g}: {count_text(discoveries.count, 'sample')} of this batch called; on average over batches "
        f"at most {discoveries.share:.2%} of those called are normal"
    )
    if not discoveries.count and discoveries.fewest > 1:
        line += (
            f"; with so few calibration samples for a batch of this size none is called unless {discoveries.fewest} or more are "
            "above all of them"
        )
    return line


def threshold_line(result: FileResult) -> str:
    """Return the counts of samples and flags, the threshold, and the number of skipped files."""
    from ae_models.thresholds import threshold_method
    from aeops.cli.outputs import count_text
    from aeops.kinds.flags import REFUSED

    threshold = result.detector.bundle["threshold"]
    line = (
        f"{count_text(result.count, 'sample')}, {int(result.scores['is_anomaly'].sum())} flagged; the threshold "
        f"{threshold['value']:.4f} {threshold_method(threshold).describe_rate()}"
    )
    if refused_count := int((result.scores["flags"] & REFUSED > 0).sum()):
        line += f"; {count_text(refused_count, 'sample')} refused"
    if result.samples.refused:
        line += f"; {count_text(len(result.samples.refused), 'file')} refused, with the reasons below"
    if result.samples.skipped:
        line += f"; {result.samples.skipped} files of the folder are no images"
    return line
