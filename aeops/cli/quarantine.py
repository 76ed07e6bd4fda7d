"""`ae quarantine RECIPE`: the samples that the last validation set aside, by their reasons, and what people decide about them."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeops.cli.outputs import add_json_option, count_text, open_console, open_table, print_json
from aeops.errors import UsageError

if TYPE_CHECKING:
    from aeops.data.judgements import Judgement, SampleKey, Standing
    from aeops.data.quarantine_rows import SetAside
    from aeops.project import Project
    from aeops.recipe.reader import Recipe

DEFAULT_ROWS = 20


def add_command(commands: Any) -> None:
    """Add `ae quarantine` to the commands of the parser."""
    command = commands.add_parser("quarantine", help="list the samples that validation set aside, by reason, and judge them")
    command.add_argument("recipe", help="name of a file in recipes/, such as digits")
    command.add_argument("--reason", metavar="TEXT", help="only samples with a reason that holds this text")
    command.add_argument("--rows", type=int, default=DEFAULT_ROWS, help=f"samples to list (default: {DEFAULT_ROWS}; 0: all)")
    ids_help = "separated by commas, or `all` that --reason finds"
    release_help = f"these samples are good: the next run takes them in; IDS: {ids_help}"
    command.add_argument("--release", metavar="IDS", action="append", default=[], help=release_help)
    drop_help = "these samples stay out and are not reported again"
    command.add_argument("--drop", metavar="IDS", action="append", default=[], help=drop_help)
    relabel_help = "these samples get this label and are validated again"
    command.add_argument("--relabel", metavar="IDS=LABEL", action="append", default=[], help=relabel_help)
    command.add_argument("--why", metavar="TEXT", help="the reason for the judgement, which is recorded")
    command.add_argument("--by", metavar="NAME", help="who judges (default: AE_BY, else the login name)")
    command.add_argument("--overrule", action="store_true", help="replace an earlier judgement that says something else")
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print how many samples each reason has set aside, and the samples; or record a person's judgement of some.

    Returns:
        0, whatever was set aside.

    Raises:
        UsageError: no such recipe, no validation yet, fewer rows than none, or a judgement that cannot be.
        DataError: the quarantine or the record of judgements is damaged.
    """
    from aeops.data.judgements import read_judgements
    from aeops.data.quarantine_rows import find_quarantine, read_set_aside_rows
    from aeops.project import find_project
    from aeops.recipe.reader import load_recipe

    if arguments.rows < 0:
        raise UsageError(f"--rows: expected 0 or more, got {arguments.rows}")
    is_judging = bool(arguments.release or arguments.drop or arguments.relabel)
    if is_judging and not (arguments.why or "").strip():
        raise UsageError("--why TEXT is missing: a judgement is recorded with its reason")
    if not is_judging and (arguments.why or arguments.by or arguments.overrule):
        raise UsageError("--why, --by and --overrule go with --release, --drop or --relabel, and none of them is there")
    project = find_project()
    recipe = load_recipe(project, arguments.recipe)
    folder = find_quarantine(project, recipe)
    rows = read_set_aside_rows(project, folder, recipe.label_names) if folder is not None else []
    if arguments.reason is not None:
        rows = [row for row in rows if any(arguments.reason in reason for reason in row.reasons)]
    if is_judging:
        return judge(project, recipe, rows, arguments)
    listing = Listing(recipe, folder, rows, rows[: arguments.rows or None], read_judgements(project, recipe.data.dataset))
    if arguments.json:
        print_json(listing.to_dict())
    else:
        listing.show()
    return 0


def judge(project: "Project", recipe: "Recipe", rows: "Sequence[SetAside]", arguments: argparse.Namespace) -> int:
    """Record judgements and print them; return 0.

    Raises:
        UsageError: with every mistake at once.
        DataError: the record is damaged.
    """
    from aeops.cli.actors import actor_name
    from aeops.data.judgement_request import JudgementRequest, build_judgements
    from aeops.data.judgements import record_judgements
    from aeops.registry.ledger import current_account, require_text

    request = JudgementRequest(
        tuple(arguments.release),
        tuple(arguments.drop),
        tuple(arguments.relabel),
        who=require_text(actor_name(arguments.by), "who"),
        account=current_account(),
        why=require_text(arguments.why, "why"),
        overrules=arguments.overrule,
    )
    asked = build_judgements(project, recipe, rows, request)
    added = record_judgements(project, recipe.data.dataset, asked)
    file = project.judgements(recipe.data.dataset).relative_to(project.root)
    if arguments.json:
        print_json({"dataset": recipe.data.dataset, "recorded": list(map(judgement_document, added)), "file": file.as_posix()})
        return 0
    for one in added:
        print(f"{one.id}: {one.describe()}")
    if len(added) < len(asked):
        print(f"unchanged  {count_text(len(asked) - len(added), 'judgement')} stood there already")
    print(f"recorded   {count_text(len(added), 'judgement')} in {file}: commit it with the recipes")
    print(f"next       ae run {recipe.name}, which makes the next version of the data")
    return 0


def judgement_document(judgement: "Judgement") -> dict[str, Any]:
    """Return a judgement as --json prints it."""
    return {
        "id": judgement.id,
        "decision": judgement.decision,
        "label": judgement.new_label,
        "who": judgement.who,
        "why": judgement.why,
        "time": judgement.time,
    }


class Listing:
    """What is set aside, as it is printed.

    Attributes:
        rows: what the last validation set aside and --reason finds.
        shown: the first of them.
        judgements: of the dataset, the oldest first.
    """

    def __init__(
        self,
        recipe: "Recipe",
        folder: Path | None,
        rows: "Sequence[SetAside]",
        shown: "Sequence[SetAside]",
        judgements: "Sequence[Judgement]",
    ) -> None:
        """Raise DataError where judgements contradict each other."""
        from aeops.data.judgements import resolve

        self.recipe, self.folder, self.rows, self.shown = recipe, folder, rows, shown
        self.judgements = judgements
        self.standings: Mapping[SampleKey, Standing] = resolve(judgements, recipe.data.dataset)

    @property
    def copies(self) -> int:
        """How many samples equal an earlier one and have no other fault."""
        from aeops.recipe.sections import DUPLICATE

        return sum(set(row.kinds) == {DUPLICATE} for row in self.rows)

    def headline(self) -> str:
        """Return how many samples are set aside; those that equal others are counted apart, as they are no fault."""
        bad, copies = len(self.rows) - self.copies, self.copies
        texts = []
        if bad or not copies:
            texts.append(f"{bad:,} {'sample is' if bad == 1 else 'samples are'} set aside")
        if copies:
            texts.append(f"{copies:,} {'copy of another is' if copies == 1 else 'copies of others are'} left out")
        return ", and ".join(texts)

    def judgement_of(self, row: "SetAside") -> str:
        """Return what a person has decided of a sample since the last run; empty without that."""
        from aeops.data.judgements import Standing

        standing = self.standings.get((row.id, row.sha256), Standing())
        return "; ".join(one.describe() for one in standing.judgements)

    def to_dict(self) -> dict[str, Any]:
        """Return what --json prints."""
        from aeops.data.quarantine_rows import count_kinds

        samples = []
        for row in self.shown:
            document = {"id": row.id, "label": row.label, "reasons": row.reasons, "values": row.values}
            samples.append(document | {"judged": self.judgement_of(row) or None})
        return {
            "dataset": self.recipe.data.dataset,
            "count": len(self.rows),
            "copies": self.copies,
            "reasons": count_kinds(self.rows),
            "samples": samples,
            "judgements": list(map(judgement_document, self.judgements)),
        }

    def show(self) -> None:
        """Print the counts, a row for each sample, where its values are, and what to type."""
        from aeops.data.judgements import count_judged
        from aeops.data.quarantine_rows import count_kinds

        console, dataset, name = open_console(soft_wrap=True), self.recipe.data.dataset, self.recipe.name
        judged = ", ".join(f"{count:,} {what}" for what, count in count_judged(self.standings).items())
        if not self.rows:
            console.print(f"{dataset}: nothing is set aside{f'; judged: {judged}' if judged else ''}")
            return
        console.print(f"{dataset}: {self.headline()}")
        for kind, count in count_kinds(self.rows).items():
            console.print(f"{count:>8,}  {kind}")
        title = "samples" if len(self.shown) == len(self.rows) else f"the first {len(self.shown)} samples"
        table = open_table(console, title)
        columns = {
            "id": [row.id for row in self.shown],
            "label": [row.label or "" for row in self.shown],
            "why": ["; ".join(row.reasons) for row in self.shown],
            "values": [row.values for row in self.shown],
            "judged": list(map(self.judgement_of, self.shown)),
        }
        filled = {title: cells for title, cells in columns.items() if title in ("id", "why") or any(cells)}
        for title in filled:
            table.add_column(title)
        for cells in zip(*filled.values(), strict=True):
            table.add_row(*cells)
        console.print(table)
        if judged:
            console.print(f"judged     {judged}")
        console.print(f"values     {self.folder}: rows.parquet, and the samples in the same order")
        console.print("mended     at the source: the next `ae run` takes in what passes")
        console.print(f"judge      ae quarantine {name} --release IDS | --drop IDS | --relabel IDS=LABEL, with --why TEXT")
