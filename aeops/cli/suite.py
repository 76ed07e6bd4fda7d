"""`ae suite RECIPE`: what is expected of its data, in words; --accept widens the bounds that a person has judged."""

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ae_models.names import names_not_in
from aeops.cli.outputs import add_json_option, open_console, open_table, print_json
from aeops.errors import UsageError

if TYPE_CHECKING:
    from aeops.project import Project
    from aeops.recipe.reader import Recipe

MAX_LINES = 40  # expectations of a severity that are printed: a wide table has hundreds
JUDGED = ""  # of --accept without a name

# Observed values of a flag of each sample, such as `blank` -> how often it is set.
FLAG_TEXTS = {("False",): "never", ("True",): "always", ("False", "True"): "sometimes"}


def add_command(commands: Any) -> None:
    """Add `ae suite` to the commands of the parser."""
    command = commands.add_parser("suite", help="say what is expected of a recipe's data, and widen bounds that you have judged")
    command.add_argument("recipe", help="name of a file in recipes/, such as digits")
    accept_help = (
        "widen the bounds of this expectation (may be repeated) so far that the samples released by `ae quarantine` pass, or "
        "the set of the last validation; without a name: of all that released samples break"
    )
    command.add_argument("--accept", metavar="NAME", nargs="?", const=JUDGED, action="append", help=accept_help)
    command.add_argument("--why", metavar="TEXT", help="the reason, which is recorded")
    command.add_argument("--by", metavar="NAME", help="who judges (default: AE_BY, else the login name)")
    command.add_argument("--dry-run", action="store_true", help="only print what would change")
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the expectations, or widen some; return 0.

    Raises:
        UsageError: no such recipe, or bounds that cannot be widened.
        DataError: the last validation or the record of judgements is damaged.
    """
    from aeops.data.suite import require_known_severities
    from aeops.machine.stored_json import read_json
    from aeops.project import find_project
    from aeops.recipe.reader import load_recipe

    if arguments.accept is None and (arguments.why or arguments.by or arguments.dry_run):
        raise UsageError("--why, --by and --dry-run go with --accept, which is not there")
    project = find_project()
    recipe = load_recipe(project, arguments.recipe)
    require_known_severities(recipe)
    file = project.validation(recipe.data.dataset) / "validation.json"
    validation: dict[str, Any] | None = read_json(file, "expectations") if file.is_file() else None
    if arguments.accept is not None:
        return accept(project, recipe, validation, arguments)
    lines = describe_suite(recipe, validation)
    if arguments.json:
        print_json({"recipe": recipe.name, "dataset": recipe.data.dataset, "expectations": lines})
    else:
        show(recipe, validation, lines)
    return 0


# ---------------------------------------------------------------- in words


def describe_suite(recipe: "Recipe", validation: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return each expectation: name, sentence, severity, what the last validation observed, and how many samples broke it.

    Args:
        recipe: whose suite it is.
        validation: validation.json; None where nothing was validated yet.
    """
    from aeops.data.suite import DRIFT, drift_entries, static_checks
    from aeops.recipe.sections import SET

    found = {entry["name"]: entry for entry in (validation or {"expectations": ()})["expectations"]}
    lines = []
    for check in static_checks(recipe):
        line = {"name": check.name, "sentence": check.sentence, "severity": check.severity}
        lines.append(line | observed_facts(found.get(check.name)))
    drifts = drift_entries(found)
    drift_texts = []
    for entry in drifts:
        if entry["applicable"] and (text := observed_text(entry)):
            drift_texts.append(text)
    drift = recipe.validate.mean_drift
    broken = sum(not entry["success"] for entry in drifts)
    lines.append(
        {
            "name": DRIFT,
            "sentence": f"The means over all samples are within {drift:g} of those of the last accepted version.",
            "severity": recipe.validate.severity.get(DRIFT, SET),
            "observed": "; ".join(drift_texts) or None,
            "broken": f"{broken} of {len(drifts)} means" if broken else None,
        }
    )
    return lines


def observed_facts(entry: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a validation observed, and what broke the expectation, as texts; None where it says nothing."""
    if entry is None:
        return {"observed": None, "broken": None}
    unexpected = entry["observed"].get("unexpected", 0)
    broken = f"{unexpected:,} of {entry['observed']['judged']:,}" if unexpected else None
    if not entry["success"] and broken is None:
        broken = "the set"
    return {"observed": observed_text(entry) or None, "broken": broken}


def observed_text(entry: Mapping[str, Any]) -> str:
    """Return the range of what was observed, or the values, in words."""
    from aeops.kinds.results import shorten_list

    values = entry.get("range") or {}
    if "min" in values:
        return f"{values['min']:.4g} to {values['max']:.4g}"
    if "values" in values:
        found = FLAG_TEXTS.get(tuple(values["values"]))
        return found or shorten_list(list(filter(None, values["values"])))  # an empty one says that nothing was found
    if "distinct" in values:
        return f"{values['distinct']:,} different ones"
    value = entry["observed"].get("value")
    if isinstance(value, list):
        return shorten_list(list(map(str, value)))
    return f"{value:.4g}" if isinstance(value, float) else ("" if value is None else f"{value:,}")


def show(recipe: "Recipe", validation: Mapping[str, Any] | None, lines: Sequence[Mapping[str, Any]]) -> None:
    """Print the expectations by severity, and what to type."""
    from aeops.data.suite import CONSEQUENCES

    console = open_console(soft_wrap=True)
    state = "not validated yet"
    if validation is not None:
        state = f"the last validation {'accepted' if validation['passed'] else 'refused'} {validation['rows']['given']:,} samples"
    console.print(f"{recipe.name}: {len(lines)} expectations of data/{recipe.data.dataset}; {state}")
    for severity, consequence in CONSEQUENCES.items():
        chosen = [line for line in lines if line["severity"] == severity]
        if not chosen:
            continue
        table = open_table(console, f"{severity}: {consequence}")
        for title in ("name", "expected", "observed", "broken by"):
            table.add_column(title)
        shown = pick_lines(chosen)
        for line in shown:
            table.add_row(line["name"], line["sentence"], line["observed"] or "", line["broken"] or "")
        console.print(table)
        if len(shown) < len(chosen):
            console.print(f"and {len(chosen) - len(shown)} more that nothing breaks: ae suite {recipe.name} --json")
    console.print("severity   validate.severity in the recipe: {NAME: row | set | warning}")
    console.print(
        f"widen      ae quarantine {recipe.name} --release IDS --why TEXT, then ae suite {recipe.name} --accept --why TEXT"
    )


def pick_lines(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the expectations to print: all of a few; of the hundreds of a wide table those that are broken and some others."""
    if len(lines) <= MAX_LINES:
        return list(lines)
    broken = [line for line in lines if line["broken"]]
    others = [line for line in lines if not line["broken"]]
    return [*broken, *others[: max(0, MAX_LINES - len(broken))]]


# ---------------------------------------------------------------- widening


def accept(project: "Project", recipe: "Recipe", validation: Mapping[str, Any] | None, arguments: argparse.Namespace) -> int:
    """Widen bounds in the recipe's file, with a record of who and why; return 0.

    The record is written first: killed between the two, the same command does the rest.

    Raises:
        UsageError: nothing was validated yet, nothing is to be widened, no reason, or the file cannot be changed safely.
    """
    from aeops.cli.recipe_change import changed_text, diff_lines
    from aeops.data.judgements import read_standings
    from aeops.data.widening import plan_widenings, record_widenings
    from aeops.files import atomic_write
    from aeops.recipe.reader import read_unchanged

    if validation is None:
        raise UsageError(f"{recipe.name}: nothing was validated yet, so nobody can have judged it: type `ae run {recipe.name}`")
    if not arguments.dry_run and not (arguments.why or "").strip():
        raise UsageError("--why TEXT is missing: bounds are widened with a reason, which is recorded")
    names = names_not_in(arguments.accept, {JUDGED})
    standings = read_standings(project, recipe.data.dataset)
    widenings = plan_widenings(recipe, read_unchanged(project, recipe), validation, standings, names)
    if not widenings:
        what = "released samples meet every bound" if not names else f"the last validation meets {', '.join(names)}"
        raise UsageError(f"{recipe.name}: nothing to widen: {what}; `ae suite {recipe.name}` shows the bounds")
    file = project.recipe_file(recipe.name)
    old_text = file.read_text(encoding="utf-8")
    new_text = changed_text(recipe.name, old_text, {one.setting: one.after for one in widenings})
    if not arguments.dry_run:
        record_widenings(project, recipe.name, widenings, record_facts(arguments))
        atomic_write(file, new_text, file.stat().st_mode & 0o777)
    diff = diff_lines(recipe.name, old_text, new_text)
    if arguments.json:
        changes = [{"setting": one.setting, "from": one.before, "to": one.after, "because": one.because} for one in widenings]
        print_json({"recipe": recipe.name, "widened": not arguments.dry_run, "changes": changes, "diff": diff})
        return 0
    print("\n".join(diff))
    for one in widenings:
        reason = f", so that {', '.join(one.because)} pass" if one.because else ", as the last validation observed"
        print(f"{one.expectation}: {one.setting} from {one.before} to {one.after}{reason}")
    if not arguments.dry_run:
        record = project.suite_record(recipe.name).relative_to(project.root)
        print(f"recorded   in {record}: commit it with recipes/{file.name}")
        print(f"next       ae run {recipe.name}")
    return 0


def record_facts(arguments: argparse.Namespace) -> dict[str, str]:
    """Return who widens bounds, when and why."""
    from datetime import UTC, datetime

    from aeops.cli.actors import actor_name
    from aeops.registry.ledger import current_account, require_text

    return {
        "who": require_text(actor_name(arguments.by), "who"),
        "account": current_account(),
        "why": require_text(arguments.why, "why"),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
