"""Stage validate: an incoming dataset -> data/<dataset> with its receipt, or a refusal that leaves data/ as it was.

    python -m aeops.stages.validate --recipe recipes/digits.yaml --incoming .ae/incoming/digits

Samples that break an expectation go to quarantine, within the recipe's budget; what breaks an expectation of the set
refuses all of it. validation.json and the Data Docs are written either way.
"""

import argparse
import math
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from aeops.data.array_files import write_npy_file, write_parquet
from aeops.data.data_docs import publish_pages
from aeops.data.dataset import (
    FORMAT,
    RECEIPT_FILE,
    content_sha256,
    read_index,
    read_shards,
    recover_dataset,
    replace_dataset,
    require_receipt,
    shard_file,
    staging_folder,
)
from aeops.data.quarantine import write_quarantine
from aeops.data.validation import (
    DataValidator,
    ExpectationResult,
    drift_means,
    quarantine_reasons,
    validate_drift,
    validate_samples,
    validate_set,
)
from aeops.errors import DataError
from aeops.files import file_sha256, read_json, write_json
from aeops.machine.entry_point import run_main
from aeops.project import Project, find_project
from aeops.recipe.reader import Recipe, read_recipe

SHOWN = 20  # quarantined samples that validation.json names; the quarantine's rows.parquet names all
COMMONEST = 3  # reasons that a refusal names


@dataclass(frozen=True)
class Judgement:
    """What validation found.

    Attributes:
        index: the incoming dataset's index.
        reasons: for each bad sample: its id -> what it breaks.
        budget: how many bad samples may be set aside.
        samples, together, drift: the results for each sample, for the accepted ones together, and for these beside the
            last accepted version. The last two are empty where the budget is overrun: there is no accepted set.
        no_drift: why drift could not be judged, or None where it was.
    """

    index: pd.DataFrame
    reasons: dict[str, list[str]]
    budget: int
    samples: list[ExpectationResult]
    together: list[ExpectationResult]
    drift: list[ExpectationResult]
    no_drift: str | None

    @property
    def accepted(self) -> pd.DataFrame:
        return self.index[~self.index["id"].isin(list(self.reasons))]

    @property
    def rows(self) -> dict[str, int]:
        bad = len(self.reasons)
        return {"given": len(self.index), "accepted": len(self.index) - bad, "quarantined": bad}

    @property
    def over_budget(self) -> bool:
        return len(self.reasons) > self.budget

    @property
    def broken(self) -> list[ExpectationResult]:
        """The expectations of the set that are not met."""
        return [result for result in self.together + self.drift if not result.is_success]

    @property
    def passed(self) -> bool:
        return not self.over_budget and not self.broken


def validate(recipe: Recipe, project: Project, incoming: Path) -> None:
    """Accepts the incoming dataset into data/<dataset>, without its bad samples.

    Raises:
        DataError: nothing whole came in, more samples are bad than the budget allows, or the set is not what the recipe
            says; data/ is as it was.
    """
    place = project.dataset(recipe.data.dataset)
    recover_dataset(place)
    facts = require_incoming(incoming, recipe)
    judgement = judge_incoming(recipe, project, incoming, facts)
    quarantine = set_aside(judgement, recipe, project, incoming)
    try:
        built = build(judgement, incoming, facts, staging_folder(place)) if judgement.passed else None
        record(judgement, recipe, project, quarantine, content_sha256(built) if built else None)
        if built is None:
            raise DataError(refusal(judgement, recipe, project, quarantine))
        if not same_dataset(built, place):
            replace_dataset(built, place)
    finally:
        recover_dataset(place)


def require_incoming(incoming: Path, recipe: Recipe) -> dict[str, Any]:
    """dataset.json of a whole incoming dataset; raises DataError where it is not whole or not this recipe's."""
    again = f"type ae run {recipe.name} to ingest it again"
    if not (incoming / "dataset.json").is_file():
        raise DataError(f"no incoming dataset in {incoming}: {again}")
    facts: dict[str, Any] = read_json(incoming / "dataset.json")
    spec = recipe.fit.input
    sizes = {"kind": spec.kind, "shape": list(spec.shape), "low": spec.low, "high": spec.high}
    wanted = {"dataset": recipe.data.dataset} | sizes
    for key, value in wanted.items():
        if facts[key] != value:
            raise DataError(f"{incoming}: {key} {facts[key]} given; {value} allowed, as the recipe says: {again}")
    for shard in facts["shards"]:
        place = incoming / shard["file"]
        if not place.is_file() or file_sha256(place) != shard["sha256"]:
            raise DataError(f"{place}: missing or altered after it was ingested: {again}")
    return facts


# ---------------------------------------------------------------- judging


def judge_incoming(recipe: Recipe, project: Project, incoming: Path, facts: dict[str, Any]) -> Judgement:
    """Judges each sample, then the accepted ones together, and publishes the pages."""
    index = read_index(incoming)
    site = project.data_docs / f".{recipe.data.dataset}.aside"
    shutil.rmtree(site, ignore_errors=True)
    judge = DataValidator(site)
    samples = validate_samples(judge, recipe, index, facts["dtype"])
    reasons = quarantine_reasons(samples, index)
    judgement = Judgement(
        index, reasons, math.floor(recipe.validate.quarantine_budget * len(index) + 1e-9), samples, [], [], None
    )
    if not judgement.over_budget:
        together = validate_set(judge, recipe, judgement.accepted)
        last, no_drift = last_means(recipe, project)
        drift = validate_drift(judge, recipe, judgement.accepted, last) if last else []
        judgement = Judgement(index, reasons, judgement.budget, samples, together, drift, no_drift)
    judge.write_pages()
    outcome = "accepted" if judgement.passed else "refused"
    publish_pages(site, project.data_docs, recipe.data.dataset, outcome, about(judgement), judge.suites)
    return judgement


def last_means(recipe: Recipe, project: Project) -> tuple[dict[str, float] | None, str | None]:
    """The means of the last accepted version, or None and why there are none."""
    place = project.dataset(recipe.data.dataset)
    if not place.is_dir():
        return None, "no version has been accepted yet"
    try:
        require_receipt(place, recipe.name)
    except DataError as error:  # what is there was never accepted as it is, so it is no measure of anything
        return None, str(error)
    held, kind = read_json(place / "dataset.json")["kind"], recipe.fit.input.kind
    if held != kind:
        return None, f"the last accepted version holds samples of kind {held}, not {kind}"
    return drift_means(read_index(place), kind), None


def set_aside(judgement: Judgement, recipe: Recipe, project: Project, incoming: Path) -> Path | None:
    """The quarantine folder with the bad samples, or None where there are none."""
    if not judgement.reasons:
        return None
    place = project.quarantine(recipe.data.dataset) / content_sha256(incoming)[:12]
    write_quarantine(place, incoming, judgement.index, judgement.reasons)
    return place


# ---------------------------------------------------------------- saying


def record(judgement: Judgement, recipe: Recipe, project: Project, quarantine: Path | None, content: str | None) -> None:
    """Writes validation.json; paths in it are relative to the state folder."""
    dataset = recipe.data.dataset
    expectations = [
        result.to_dict() | {"applicable": True} for result in judgement.samples + judgement.together + judgement.drift
    ]
    if judgement.no_drift:
        expectations.append({"name": "drift", "applicable": False, "success": True, "why": judgement.no_drift})
    first = list(judgement.reasons.items())[:SHOWN]
    place = project.validation(dataset)
    place.mkdir(parents=True, exist_ok=True)
    facts = {
        "format": FORMAT,
        "dataset": dataset,
        "passed": judgement.passed,
        "expectations": expectations,
        "rows": judgement.rows,
        "budget": judgement.budget,
        "quarantined": [{"id": identity, "reasons": reasons} for identity, reasons in first],
        "quarantine": quarantine.relative_to(project.home).as_posix() if quarantine else None,
        "data_docs": (project.data_docs / dataset / "index.html").relative_to(project.home).as_posix(),
        "content_sha256": content,
    }
    write_json(place / "validation.json", facts)


def about(judgement: Judgement) -> str:
    """What the page says beside its tables."""
    given, _, bad = judgement.rows.values()
    text = f"{bad} of {given} samples are bad; {judgement.budget} may be set aside in quarantine."
    if judgement.over_budget:
        return f"{text} So many leave no set to be judged."
    return f"{text} Drift was not judged: {judgement.no_drift}." if judgement.no_drift else text


def refusal(judgement: Judgement, recipe: Recipe, project: Project, quarantine: Path | None) -> str:
    """Why the dataset was refused, in one line."""
    name = recipe.name
    after = (
        f"look at {project.data_docs / recipe.data.dataset / 'index.html'}; data/{recipe.data.dataset} is as it was; mend "
        f"the source, or the bounds (validate) in recipes/{name}.yaml, then type ae run {name}"
    )
    if judgement.over_budget:
        bad, given = len(judgement.reasons), len(judgement.index)
        return (
            f"{recipe.data.dataset}: {bad} of {given} samples are bad; {judgement.budget} or less allowed "
            f"(quarantine_budget {recipe.validate.quarantine_budget:g}); commonest: {commonest(judgement.samples)}; "
            f"they are in {quarantine} with their reasons; {after}"
        )
    broken = "; ".join(result.message() for result in judgement.broken)
    return f"{recipe.data.dataset}: the set is not what the recipe expects: {broken}; {after}"


def commonest(results: list[ExpectationResult]) -> str:
    """The expectations that most samples break, such as `blank (40 samples)`."""
    counts = Counter({result.check.name: len(result.unexpected_items) for result in results if result.unexpected_items})
    return ", ".join(f"{name} ({count} samples)" for name, count in counts.most_common(COMMONEST))


# ---------------------------------------------------------------- accepting


def build(judgement: Judgement, incoming: Path, facts: dict[str, Any], aside: Path) -> Path:
    """The accepted dataset with its receipt, in a folder beside the one it is to replace."""
    built = aside / "new"
    (built / "shards").mkdir(parents=True)
    index, shards = write_accepted(judgement.accepted, incoming, built)
    write_parquet(built / "index.parquet", index)
    write_json(built / "dataset.json", facts | {"rows": len(index), "shards": shards})
    receipt = {
        "format": FORMAT,
        "dataset": facts["dataset"],
        "suite": [result.to_dict() for result in judgement.samples + judgement.together],
        "rows": judgement.rows,
        "content_sha256": content_sha256(built),
    }
    write_json(built / RECEIPT_FILE, receipt)
    return built


def write_accepted(accepted: pd.DataFrame, incoming: Path, built: Path) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Writes the shards of the accepted samples, one in memory at a time, and gives their index and sums.

    A shard that lost no sample keeps its bytes; one that lost all of them is left out.
    """
    parts, shards = [], []
    for number, (part, block) in enumerate(read_shards(incoming, accepted)):
        file = shard_file(number)
        write_npy_file(built / file, block.shape, block.dtype, [block])
        parts.append(part.assign(shard=number, row=range(len(part))))
        shards.append({"file": file, "rows": len(part), "sha256": file_sha256(built / file)})
    return pd.concat(parts, ignore_index=True), shards


def same_dataset(built: Path, place: Path) -> bool:
    """Whether `place` holds the very bytes of `built`, so that there is nothing to replace."""
    receipt = place / RECEIPT_FILE
    same_receipt = receipt.is_file() and receipt.read_bytes() == (built / RECEIPT_FILE).read_bytes()
    return same_receipt and content_sha256(place) == content_sha256(built)


def main() -> None:
    parser = argparse.ArgumentParser(description="Incoming dataset -> data/<dataset> with its receipt.")
    parser.add_argument("--recipe", type=Path, required=True, help="the recipe's YAML file")
    parser.add_argument("--incoming", type=Path, required=True, help="what stage ingest wrote")
    given = parser.parse_args()
    run_main(lambda: validate(read_recipe(given.recipe), find_project(), given.incoming))


if __name__ == "__main__":
    main()
