"""Two versions of a recipe side by side: only what differs, metrics on the same samples, and where they disagree."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from aeops.bundle.detector import Detector
from aeops.comparing.disagreement_pictures import MAX_PICTURES, draw_disagreements
from aeops.comparing.same_samples import SampleComparison, compare_on_samples
from aeops.comparing.version_facts import Difference, VersionFacts, find_differences, read_facts
from aeops.data.fit_samples import learnt_fit
from aeops.errors import UsageError
from aeops.evaluation.prepared import load_prepared
from aeops.gate.evidence import holdout_sha256
from aeops.kinds.results import PageBlock
from aeops.machine.stored_json import read_json
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.registry.store import Store
from aeops.registry.trust import trusted_bundle


@dataclass(frozen=True)
class VersionComparison:
    """The result.

    Attributes:
        samples: on the test samples that lie prepared here; with a problem where there are none.
        notes: what a reader has to know of these samples.
        pictures: of the first disagreements, in their order: the sample and, of images, the error maps of both versions.
    """

    first: VersionFacts
    second: VersionFacts
    differences: list[Difference]
    samples: SampleComparison
    notes: list[str]
    pictures: list[list[PageBlock]]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON holds it."""
        versions = []
        for facts in (self.first, self.second):
            versions.append(
                {
                    "recipe": facts.recipe,
                    "version": facts.version,
                    "made_at": facts.made_at.isoformat(),
                    "who": facts.who,
                    "sentence": facts.sentence,
                }
            )
        return {
            "versions": versions,
            "differences": list(map(asdict, self.differences)),
            "samples": asdict(self.samples),
            "notes": self.notes,
        }


def compare_versions(project: Project, store: Store, recipe: Recipe, first: str, second: str) -> VersionComparison:
    """Compare two versions, each named by its number or alias.

    Raises:
        UsageError: no such version, or twice the same one.
        DataError: a bundle is not the one that was registered.
    """
    one = read_facts(store, recipe.name, store.version(recipe.name, first))
    other = read_facts(store, recipe.name, store.version(recipe.name, second))
    if one.version == other.version:
        raise UsageError(f"expected two versions, got {recipe.name}@{one.version} twice: `ae show {recipe.name}` lists all")
    prepared = project.artifacts(recipe.name) / "prepared"
    differences = find_differences(one, other)
    if not (prepared / "test.npy").is_file():
        problem = f"no test samples are prepared here: type `ae run {recipe.name}`"
        return VersionComparison(one, other, differences, SampleComparison(0, problem, [], []), [], [])
    detectors = []
    for facts in (one, other):
        bundle = trusted_bundle(project, store, recipe, facts.version)
        detectors.append(Detector(bundle.folder, bundle.sha256))
    served, data = replace(recipe, fit=learnt_fit(recipe.fit, read_json(prepared / "prepared.json"))), load_prepared(prepared)
    samples = compare_on_samples(served, data, *detectors)
    pictures = draw_disagreements(served, data, detectors, samples.disagreements[:MAX_PICTURES])
    return VersionComparison(one, other, differences, samples, _sample_notes(prepared, (one, other)), pictures)


def _sample_notes(prepared: Path, facts: Sequence[VersionFacts]) -> list[str]:
    """Return a note where a version was judged by other test samples than those that lie prepared here."""
    digest = holdout_sha256(prepared)
    others = []
    for one in facts:
        if one.tags.get("holdout_sha256") != digest:
            others.append(one.name)
    if not others:
        return []
    return [
        f"the test samples that judged {' and '.join(others)} were not all of these; a sample stays in its split, so neither "
        "version was trained on any of them"
    ]


def parse_pair(first: str, second: str) -> tuple[str, str, str]:
    """Return the recipe and both versions of two texts RECIPE@VERSION; the second may be the version alone.

    Raises:
        UsageError: another form, or two recipes.
    """
    recipe, _, version = first.partition("@")
    other_recipe, _, other_version = second.rpartition("@")
    if not recipe or not version or not other_version or "'" in f"{first}{second}":
        raise UsageError(f"expected two versions, such as digits@1 digits@2 or digits@7 champion, got {first!r} and {second!r}")
    if other_recipe not in ("", recipe):
        raise UsageError(f"expected two versions of one recipe, got {recipe} and {other_recipe}: their samples are not the same")
    return recipe, version, other_version


def comparison_folder(project: Project, recipe: str) -> Path:
    """Return the folder of the pages that `ae compare` writes: FIRST-SECOND.html."""
    return project.home / "compare" / recipe
