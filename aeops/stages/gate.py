"""Stage gate: is this bundle good enough? verdict.json with every rule; a refusal is a result, so the exit code is 0.

Run: python -m aeops.stages.gate --recipe recipes/digits.yaml --bundle DIR --report DIR --out verdict.json
"""

import argparse
from pathlib import Path

from ae_models.checksums import bundle_sha256
from aeops.files import file_sha256, read_json, write_json
from aeops.gate.documents import VerdictDocument
from aeops.gate.flattening import flatten
from aeops.gate.rules import RuleInputs, build_verdict, evaluate_rules
from aeops.machine.entry_point import run_main
from aeops.recipe.reader import read_recipe


def gate(recipe_file: Path, bundle: Path, report: Path, out: Path) -> VerdictDocument:
    """Judges `bundle` by the recipe's rules and the metrics in `report`; writes and returns the verdict.

    Raises:
        UsageError: a rule names a metric that metrics.json does not have.
    """
    recipe = read_recipe(recipe_file)
    metrics = report / "metrics.json"
    outcomes = evaluate_rules(recipe.gate, RuleInputs(flatten(read_json(metrics)), bundle), f"recipes/{recipe_file.name}")
    evidence = {
        "metrics_sha256": file_sha256(metrics),
        "bundle_sha256": bundle_sha256(bundle),
        "content_sha256": read_json(bundle / "bundle.json")["data"]["content_sha256"],
    }
    verdict = build_verdict(recipe.name, outcomes, evidence)
    write_json(out, verdict)
    return verdict


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m aeops.stages.gate", description="Judges a bundle by the recipe's rules.")
    for name in ("recipe", "bundle", "report", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    run_main(lambda: tell(gate(given.recipe, given.bundle, given.report, given.out)))


def tell(verdict: VerdictDocument) -> None:
    print("\n".join([verdict["verdict"], *verdict["reasons"]]))


if __name__ == "__main__":
    main()
