"""A person's judgement of samples in quarantine, from what was typed to what is recorded."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ae_models.mappings import map_values, values_at
from ae_models.names import names_in, names_not_in
from ae_models.spec import suggest_match
from aeops.data.dataset import read_index
from aeops.data.judged_samples import label_number
from aeops.data.judgements import DROP, RELABEL, RELEASE, Judgement, read_judgements
from aeops.data.quarantine_rows import SetAside
from aeops.data.suite import required_names
from aeops.errors import DataError, UsageError
from aeops.project import Project
from aeops.recipe.reader import Recipe

ALL = "all"  # in the place of ids: every sample that is listed
LABEL_NAMES = frozenset({"label", "label_missing"})  # the expectations that another label may meet
NAMED_IDS = 5  # of one mistake


@dataclass(frozen=True)
class JudgementRequest:
    """What a person has typed.

    Attributes:
        release, drop: lists of ids, separated by commas, or `all`.
        relabel: the same, each with `=LABEL` behind it.
    """

    release: tuple[str, ...]
    drop: tuple[str, ...]
    relabel: tuple[str, ...]
    who: str
    account: str
    why: str
    overrules: bool = False


def build_judgements(project: Project, recipe: Recipe, rows: Sequence[SetAside], request: JudgementRequest) -> list[Judgement]:
    """Return the judgements that a person asks for.

    Args:
        project: where earlier judgements and the accepted dataset are.
        recipe: whose dataset it is.
        rows: what is set aside and listed.
        request: what was typed.

    Raises:
        UsageError: with every mistake: an id that is not in quarantine, a label that the dataset does not know, a sample that no
            model can take.
    """
    builder = _Builder(project, recipe, rows, request)
    judgements = list(builder.build())
    if builder.mistakes:
        raise UsageError("\n".join(builder.mistakes))
    return judgements


class _Builder:
    """Collects judgements, and the mistakes in a request."""

    def __init__(self, project: Project, recipe: Recipe, rows: Sequence[SetAside], request: JudgementRequest) -> None:
        self.project, self.recipe, self.request = project, recipe, request
        self.listed = {row.id: row for row in rows}
        self.judged = {one.id: one for one in read_judgements(project, recipe.data.dataset)}
        self.required = required_names(recipe)
        self.time = datetime.now(UTC).isoformat(timespec="seconds")
        self.relabelled = {name for name, one in self.judged.items() if one.decision == RELABEL}
        self.mistakes: list[str] = []

    def build(self) -> Iterator[Judgement]:
        for argument in self.request.relabel:
            ids, separator, label = argument.rpartition("=")
            if not separator or not ids or not label:
                self.mistakes.append(f"--relabel: expected IDS=LABEL, got {argument!r}")
            elif self.knows_label(label):
                for row in self.rows_of(ids):
                    self.relabelled.add(row.id)
                    yield self.judgement(RELABEL, row, label)
        for argument in self.request.release:
            for row in self.rows_of(argument):
                yield from self.released(row)
        for argument in self.request.drop:
            for row in self.rows_of(argument):
                yield self.judgement(DROP, row)

    def rows_of(self, argument: str) -> list[SetAside]:
        """Return what is meant by ids that were typed: one that holds a comma is taken whole where it is there."""
        known: Mapping[str, SetAside] = map_values(_row_of, self.judged) | self.listed
        if argument in known:
            return [known[argument]]
        if argument == ALL and self.listed:
            return list(self.listed.values())
        names = [name.strip() for name in argument.split(",") if name.strip()]
        unknown = names_not_in(names, known)
        if unknown or not names:
            self.mistakes += self.explain_unknown(unknown or [argument], known)
        return values_at(known, names_in(names, known))

    def explain_unknown(self, names: Sequence[str], known: Mapping[str, SetAside]) -> Iterator[str]:
        dataset, hint = self.recipe.data.dataset, f"`ae quarantine {self.recipe.name}` lists what is"
        accepted = self.accepted_ids()
        for name in names[:NAMED_IDS]:
            if name in accepted:
                yield f"{name} is not set aside: it is in data/{dataset}; {hint}"
            else:
                yield f"{name!r} is not in the quarantine of {dataset}{suggest_match(name, list(known))}; {hint}"
        if len(names) > NAMED_IDS:
            yield f"and {len(names) - NAMED_IDS} more that are not set aside"

    def accepted_ids(self) -> set[str]:
        folder = self.project.dataset(self.recipe.data.dataset)
        if not folder.is_dir():
            return set()
        try:
            return set(read_index(folder)["id"])
        except (DataError, FileNotFoundError):  # a damaged dataset is reported by who uses it
            return set()

    def released(self, row: SetAside) -> Iterator[Judgement]:
        """Yield the release of a sample that a model can take."""
        firm = self.required.intersection(row.kinds)
        if row.id in self.relabelled:
            firm -= LABEL_NAMES
        if row.sha256 is None:
            reason = "; ".join(row.reasons)
            self.mistakes.append(f"{row.id} is no sample ({reason}): mend it at the source, --relabel it, or --drop it")
        elif LABEL_NAMES.intersection(firm):
            self.mistakes.append(f"{row.id} has no label that data.labels knows: --relabel {row.id}=LABEL, or --drop it")
        elif firm:
            self.mistakes.append(
                f"{row.id} breaks {', '.join(sorted(firm))}, and no model can take it: mend it at the source, or --drop it"
            )
        else:
            yield self.judgement(RELEASE, row)

    def knows_label(self, label: str) -> bool:
        labels = self.recipe.data.labels
        if label_number(self.recipe, label) is not None:
            return True
        texts = list(map(self.recipe.label_text, labels))
        expected = f"one of {', '.join(texts)}" if texts else "none, as data.labels is empty"
        self.mistakes.append(
            f"--relabel: expected a label of the dataset, {expected}, got {label!r}{suggest_match(label, texts)}"
        )
        return False

    def judgement(self, decision: str, row: SetAside, label: str | None = None) -> Judgement:
        if row.sha256 == "":
            raise UsageError(
                f"the quarantine of {self.recipe.data.dataset} was written by an older version, without the samples' contents: "
                f"type `ae run {self.recipe.name}`, then the same command again"
            )
        request = self.request
        who = {"who": request.who, "account": request.account, "why": request.why, "time": self.time}
        reasons = row.kinds if row.sha256 is not None else row.reasons
        return Judgement(decision, row.id, row.sha256, reasons, row.label, **who, new_label=label, overrules=request.overrules)


def _row_of(judgement: Judgement) -> SetAside:
    """Return a sample as it was judged."""
    return SetAside(judgement.id, judgement.sha256, judgement.label, judgement.reasons)
