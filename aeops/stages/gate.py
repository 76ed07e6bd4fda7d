"""Stage gate: apply the recipe's rules to a bundle and write verdict.json; a refusal is a result, so the exit code is 0.

Run: python -m aeops.stages.gate --recipe recipes/digits.yaml --bundle DIR --report DIR --out verdict.json
"""

import argparse
from pathlib import Path

from ae_models.checksums import bundle_sha256
from aeops.files import file_sha256, write_json
from aeops.gate.documents import VerdictDocument, gate_warnings
from aeops.gate.flattening import flatten
from aeops.gate.rules import RuleInputs, build_verdict, evaluate_rules
from aeops.machine.entry_point import run_main
from aeops.machine.stored_json import read_json
from aeops.recipe.default_rules import unchecked_warnings
from aeops.recipe.reader import read_recipe


def gate(recipe_file: Path, bundle: Path, report: Path, output_file: Path) -> VerdictDocument:
    """Apply the recipe's rules to `bundle` and the metrics in `report`; write and return the verdict.

    Args:
        recipe_file: the recipe's YAML file.
        bundle: the bundle that the report evaluates.
        report: the folder of the stage evaluate, with metrics.json.
        output_file: where to write verdict.json.

    Raises:
        UsageError: a rule names a metric that metrics.json does not have.
    """
    recipe = read_recipe(recipe_file)
    metrics_file = report / "metrics.json"
    outcomes = evaluate_rules(recipe.gate, RuleInputs(flatten(read_json(metrics_file)), bundle), f"recipes/{recipe_file.name}")
    evidence = {"metrics_sha256": file_sha256(metrics_file), "bundle_sha256": bundle_sha256(bundle)}
    evidence |= read_json(bundle / "bundle.json")["data"]
    warnings = list(unchecked_warnings(recipe.purpose, recipe.unchecked))
    verdict = build_verdict(recipe.name, recipe.gate, outcomes, evidence, warnings)
    write_json(output_file, verdict)
    return verdict


def main() -> None:
    """Parse the command line, apply the rules, and print the verdict with its reasons."""
    parser = argparse.ArgumentParser(prog="python -m aeops.stages.gate", description="Apply a recipe's rules to a bundle.")
    for name in ("recipe", "bundle", "report", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()

    def run_gate() -> None:
        verdict = gate(arguments.recipe, arguments.bundle, arguments.report, arguments.out)
        print(verdict["verdict"], *verdict["reasons"], *gate_warnings(verdict), sep="\n")

    run_main(run_gate)


if __name__ == "__main__":
    main()
