"""The long tests, their targets and the record of when each target last ran.

`python tests/long_run.py TARGET` runs the long tests of a target and records commit, date, duration and result in
tests/records/long.json. `python tests/long_run.py --check` warns of records that are older than the code
that they are of, and refuses one of a failed run; with `--release` it refuses the old ones, too.
"""

import argparse
import ast
import hashlib
import io
import json
import subprocess
import sys
import time
import tokenize
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "tests" / "records" / "long.json"
TARGETS = {
    "stack": (
        "tests/stack/test_whole_stack.py",
        "tests/stack/test_foreign_page.py",
        "tests/stack/test_prefect_database.py",
        "tests/long/test_own_project.py",
        "tests/long/test_tour.py",
        "tests/pipeline/test_approval.py",
        "tests/pipeline/test_awkward_checkout.py",
        "tests/pipeline/test_own_data.py",
        "tests/pipeline/test_rebuild.py",
        "tests/pipeline/test_recalibrate.py",
    ),
    "kills": (
        "tests/intake/test_killed_intake.py",
        "tests/long/test_kills.py",
        "tests/long/test_workers.py",
        "tests/pipeline/test_failing_run.py",
        "tests/pipeline/test_interrupted_run.py",
        "tests/pipeline/test_seeds.py",
        "tests/project/test_new_project.py",
        "tests/pipeline/test_shipped_sweeps.py",
        "tests/pipeline/test_sweep.py",
        "tests/pipeline/test_two_runs.py",
        "tests/registry/test_forgetting.py",
        "tests/registry/test_killed_registering.py",
        "tests/registry/test_power_cut.py",
        "tests/scoring/test_day_files.py",
        "tests/scoring/test_killed_scoring.py",
        "tests/science/test_training.py",
        "tests/science/test_weight_hash_log.py",
    ),
    "transcripts": (
        "tests/long/test_forget_after_run.py",
        "tests/long/test_tool_install.py",
        "tests/long/test_transcripts.py",
    ),
    "crashes": ("tests/long/test_crash_matrix.py",),
    "ray": ("tests/long/test_ray.py",),
    "quarter": ("tests/long/test_quarter.py",),
    "servers": (
        "tests/deploy/test_own_rows.py",
        "tests/deploy/test_real_servers.py",
        "tests/long/test_served_kinds.py",
        "tests/serving/test_hostile_bodies.py",
        "tests/serving/test_served_series.py",
        "tests/serving/test_service_live.py",
        "tests/serving/test_texts.py",
    ),
    "models": (
        "tests/audit/test_audit_command.py",
        "tests/audit/test_table_audit.py",
        "tests/data/test_series_datasets.py",
        "tests/evaluation/test_codes.py",
        "tests/evaluation/test_series_report.py",
        "tests/evaluation/test_unlabelled_reports.py",
        "tests/science/test_every_pair.py",
        "tests/science/test_sample_sets_and_memory.py",
        "tests/science/test_sklearn.py",
    ),
    "benchmarks": (
        "tests/benchmarks/test_anomaly_detection.py",
        "tests/benchmarks/test_anomaly_series.py",
        "tests/benchmarks/test_anomaly_tiles.py",
        "tests/benchmarks/test_batch_scoring.py",
        "tests/benchmarks/test_bench.py",
        "tests/benchmarks/test_choose_novelty.py",
        "tests/benchmarks/test_ensemble_speed.py",
        "tests/benchmarks/test_estimators_speed.py",
        "tests/benchmarks/test_five_versions.py",
        "tests/benchmarks/test_gpu_job.py",
        "tests/benchmarks/test_gate_simulation.py",
        "tests/benchmarks/test_growth.py",
        "tests/benchmarks/test_label_errors.py",
        "tests/benchmarks/test_models.py",
        "tests/benchmarks/test_power_ranking.py",
        "tests/benchmarks/test_quarter.py",
        "tests/benchmarks/test_serving_soak.py",
        "tests/benchmarks/test_serving_speed.py",
        "tests/benchmarks/test_workers_speed.py",
    ),
}
# What every target runs, as each brings up whole processes of the project; and what some need beside it.
COVERED = ("ae_models", "aeops", "flows", "recipes/digits.yaml", "prefect.yaml", "dvc.yaml", "requirements.lock")
COVERED_TOO = {
    "transcripts": ("docs/own-data-examples.md", "docs/quick-start.md", "docs/take_screenshots.py"),
    "servers": ("deploy",),
    "benchmarks": ("benchmarks",),
    "kills": ("benchmarks/quarter.py", "tests/write_recorder.c"),
    "quarter": ("benchmarks/quarter.py",),
}
# Four trials of the crash matrix at a time: each waits for processes half of its time.
OPTIONS = {"crashes": ("-n", "4", "--dist", "loadgroup")}
NO_TESTS = 5  # pytest's exit code where it found none
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def covered_files(root: Path, target: str) -> list[Path]:
    """Return the files in git that a target's result depends on: product code, settings, its tests and their helpers."""
    paths = [*COVERED, *COVERED_TOO.get(target, ()), *TARGETS[target], ":(glob)tests/*.py"]
    paths += [f":(glob){Path(file).parent}/conftest.py" for file in TARGETS[target]]
    listed = subprocess.run(["git", "ls-files", "-z", "--", *paths], cwd=root, capture_output=True, text=True, check=True)
    return [root / name for name in sorted(set(listed.stdout.split("\0")) - {""}) if (root / name).is_file()]


def code_of(source: str) -> str:
    """Return Python source without comments, docstrings and empty lines, so that words may change without a new run."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            docstring = node.body[0]
            lines[docstring.lineno - 1 : docstring.end_lineno] = [""] * ((docstring.end_lineno or 0) - docstring.lineno + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def code_sha256(root: Path, files: Iterable[Path]) -> str:
    """Return one SHA-256 over the names and contents of files; of Python files over their code alone."""
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        if file.suffix == ".py":
            content = code_of(content.decode("utf-8")).encode("utf-8")
        for part in (file.relative_to(root).as_posix().encode("utf-8"), content):
            digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def current_sha256(root: Path, target: str) -> str:
    return code_sha256(root, covered_files(root, target))


def read_record(file: Path) -> dict[str, dict[str, object]]:
    """Return target -> its last run; empty where nothing was recorded."""
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def check(root: Path, record: dict[str, dict[str, object]]) -> tuple[list[str], list[str]]:
    """Return the warnings, of targets without a record of today's code, and the errors, of failed runs.

    An old record is no error but before a release: some targets take an hour, and code changes every day.
    """
    warnings, errors = [], []
    for target in TARGETS:
        last_run = record.get(target)
        command = f"type make test-long-{target}"
        if last_run is None:
            warnings.append(f"the long tests of `{target}` have no recorded run: {command}")
        elif last_run["result"] != "passed":
            errors.append(f"the last run of the long tests of `{target}` ({last_run['date']}) {last_run['result']}: {command}")
        elif last_run["code_sha256"] != current_sha256(root, target):
            warnings.append(
                f"what the long tests of `{target}` cover has changed since their last run ({last_run['date']}, commit "
                f"{str(last_run['commit'])[:12]}, {last_run['seconds']} s): {command}"
            )
    return warnings, errors


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def run(target: str) -> int:
    """Run the long tests of a target and record the run; return pytest's exit code."""
    before, started = current_sha256(ROOT, target), time.monotonic()
    command = [sys.executable, "-m", "pytest", "-m", "long", *OPTIONS.get(target, ()), *TARGETS[target]]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if code == NO_TESTS:
        return code
    record = read_record(RECORD)
    record[target] = {
        "result": "passed" if code == 0 else "failed",
        "commit": git(ROOT, "rev-parse", "HEAD"),
        "uncommitted_changes": bool(git(ROOT, "status", "--porcelain", "--untracked-files=no")),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - started),
        "code_sha256": before,
    }
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the long tests of a target and record the run, or check the records.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("target", nargs="?", choices=TARGETS)
    what.add_argument("--check", action="store_true")
    parser.add_argument("--release", action="store_true", help="with --check: refuse what it warns of, as before a release")
    arguments = parser.parse_args()
    if not arguments.check:
        return run(arguments.target)
    warnings, errors = check(ROOT, read_record(RECORD))
    if arguments.release:
        warnings, errors = [], [*errors, *warnings]
    for warning in warnings:
        print(f"WARNING: {warning}", file=sys.stderr)
    for error in errors:
        print(f"ERROR: {error}", file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
