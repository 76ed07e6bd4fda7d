"""The record of the long tests: what makes it too old, and what `make check` says then."""

import subprocess
from pathlib import Path

import long_run
import pytest
from checkout import ROOT

MODULE = '''"""One."""


def one() -> int:
    """Return one."""
    return 1  # the first
'''


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one module of the product, in git."""
    (tmp_path / "aeops").mkdir()
    (tmp_path / "aeops" / "one.py").write_text(
        '"""One."""\n\n\ndef one() -> int:\n    """Return one."""\n    return 1  # the first\n'
    )
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def recorded(repository: Path, **changes: object) -> dict[str, dict[str, object]]:
    return {
        target: {
            "result": "passed",
            "commit": "c" * 40,
            "date": "2026-01-01",
            "seconds": 9,
            "code_sha256": long_run.current_sha256(repository, target),
            **changes,
        }
        for target in long_run.TARGETS
    }


def test_a_record_of_the_code_as_it_stands_is_accepted(repository: Path) -> None:
    assert long_run.check(repository, recorded(repository)) == ([], [])


def test_words_may_change_and_code_may_not(repository: Path) -> None:
    record, module = recorded(repository), repository / "aeops" / "one.py"
    module.write_text('"""Another word."""\n\ndef one() -> int:\n    """Return 1."""\n\n    return 1\n')
    assert long_run.check(repository, record) == ([], [])
    module.write_text(MODULE.replace("return 1", "return 2"))
    warnings, errors = long_run.check(repository, record)
    assert (len(warnings), errors) == (len(long_run.TARGETS), [])
    for warning, target in zip(warnings, long_run.TARGETS, strict=True):
        assert warning.endswith(f": type make test-long-{target}")


def test_a_new_file_makes_a_record_old(repository: Path) -> None:
    record = recorded(repository)
    (repository / "flows").mkdir()
    (repository / "flows" / "new.py").write_text("x = 1\n")
    subprocess.run(["git", "add", "-A"], cwd=repository, check=True)
    assert len(long_run.check(repository, record)[0]) == len(long_run.TARGETS)


def test_no_record_is_a_warning_and_a_failed_run_an_error(repository: Path) -> None:
    warnings, errors = long_run.check(repository, {})
    assert [warning.partition("type ")[2] for warning in warnings] == [f"make test-long-{name}" for name in long_run.TARGETS]
    assert errors == []
    assert len(long_run.check(repository, recorded(repository, result="failed"))[1]) == len(long_run.TARGETS)


@pytest.mark.parametrize(("arguments", "code", "word"), [([], 0, "WARNING"), (["--release"], 1, "ERROR")])
def test_a_release_refuses_old_records_that_are_else_warned_of(
    arguments: list[str],
    code: int,
    word: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(long_run, "RECORD", tmp_path / "no-record.json")
    monkeypatch.setattr("sys.argv", ["long_run.py", "--check", *arguments])
    assert long_run.main() == code
    assert capsys.readouterr().err.count(f"{word}: the long tests of") == len(long_run.TARGETS)


def test_every_file_of_long_tests_is_in_one_target_and_every_target_in_the_makefile() -> None:
    marked = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "tests").rglob("test_*.py")
        if "pytest.mark.long" in (text := file.read_text()) or "kill_step: int" in text
    }
    marked.discard(Path(__file__).relative_to(ROOT).as_posix())
    targeted = [file for files in long_run.TARGETS.values() for file in files]
    assert sorted(targeted) == sorted(marked)
    makefile = (ROOT / "Makefile").read_text()
    for target in long_run.TARGETS:
        assert f"test-long-{target}" in makefile
