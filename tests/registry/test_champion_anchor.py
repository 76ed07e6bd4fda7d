"""MLflow may be written by others: who is champion, and which bundle that is, follows from the ledger or from its head."""

import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from champion_helpers import stored_bundle

from ae_models.checksums import bundle_sha256, write_checksums
from aeops.bundle.signing import new_keys
from aeops.cli.main import build_parser
from aeops.errors import DataError, InfrastructureError, UsageError
from aeops.project import Project
from aeops.recipe.reader import Recipe, load_recipe
from aeops.registry import ledger, promotion
from aeops.registry.alias_watch import AliasChange, AliasWatch
from aeops.registry.champion_anchor import LedgerChampion, build_head, read_anchor, read_heads
from aeops.registry.ledger_signatures import sign_entry, signatures_file
from aeops.registry.store import Store, open_store
from aeops.registry.trust import find_champion, trusted_bundle

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_the_project(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "recipes" / "digits.yaml", project.recipes)
    monkeypatch.chdir(project.root)
    for name in ("AE_LEDGER_HEAD", "AE_SIGNING_KEY", "AE_HOME"):
        monkeypatch.delenv(name, raising=False)


def recipe_of(project: Project) -> Recipe:
    return load_recipe(project, "digits")


# ---------------------------------------------------------------- what differs is refused


def test_a_champion_that_ledger_and_mlflow_agree_on_is_used(decided: Store, project: Project) -> None:
    bundle = trusted_bundle(project, decided, recipe_of(project), "champion")
    assert (bundle.version, bundle.sha256) == ("2", bundle_sha256(bundle.folder))
    assert LedgerChampion(project, recipe_of(project)).find_problem("2", bundle.sha256) is None


@pytest.mark.parametrize("alias", ["1", "3", None])
def test_an_alias_that_was_moved_or_deleted_by_hand_is_refused(decided: Store, project: Project, alias: str | None) -> None:
    decided.move_champion("digits", alias)
    for use in (
        lambda: trusted_bundle(project, decided, recipe_of(project), "champion"),
        lambda: find_champion(project, decided, "digits"),
    ):
        with pytest.raises(
            DataError, match=r"is refused: by the ledger .*digits\.jsonl the champion is 2 .*`ae ledger verify digits`"
        ):
            use()


def test_a_replaced_bundle_is_refused_though_its_sums_and_mlflows_tag_fit(own_champion: Store, project: Project) -> None:
    bundle = stored_bundle(own_champion, "digits", "2")
    (bundle / "model.onnx").write_text("threshold tripled", encoding="utf-8")
    write_checksums(bundle)
    own_champion.client.set_model_version_tag("digits", "2", "bundle_sha256", bundle_sha256(bundle))
    for which in ("champion", "2"):
        with pytest.raises(
            DataError, match=r"digits 2 is refused: its bundle.*by the ledger .* it is [0-9a-f]{12}: it was changed"
        ):
            trusted_bundle(project, own_champion, recipe_of(project), which)
    problem = LedgerChampion(project, recipe_of(project)).find_problem("2", bundle_sha256(bundle))
    assert problem is not None
    assert "digits 2 is refused" in problem


def test_without_a_ledger_nothing_is_champion_whatever_mlflow_says(decided: Store, project: Project) -> None:
    ledger.ledger_file(project, "digits").unlink()
    with pytest.raises(
        DataError, match=r"nothing here says which version of digits is the champion.*AE_LEDGER_HEAD.*`ae ledger head"
    ):
        trusted_bundle(project, decided, recipe_of(project), "champion")


def test_before_the_first_decision_there_is_no_champion_and_no_error(registered: Store, project: Project) -> None:
    assert find_champion(project, registered, "digits") is None
    with pytest.raises(UsageError, match="digits has no champion: make one with `ae run digits`"):
        trusted_bundle(project, registered, recipe_of(project), "champion")


# ---------------------------------------------------------------- the head


def ae(*arguments: object) -> int:
    given = build_parser().parse_args([str(argument) for argument in arguments])
    return int(given.run(given))


@pytest.fixture
def head(decided: Store, project: Project, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Path:
    """The head of the ledger, as the command prints it."""
    assert ae("ledger", "head", "digits") == 0
    file = tmp_path / "digits.head"
    file.write_text(capsys.readouterr().out, encoding="utf-8")
    return file


@pytest.mark.slow
def test_the_head_stands_in_for_a_ledger_that_is_elsewhere(
    decided: Store, project: Project, head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = ledger.read_entries(project, "digits")[-1]
    assert json.loads(head.read_text(encoding="utf-8"))["hash"] == newest.hash
    ledger.ledger_file(project, "digits").unlink()
    monkeypatch.setenv("AE_LEDGER_HEAD", str(head))
    assert trusted_bundle(project, decided, recipe_of(project), "champion").version == "2"
    decided.move_champion("digits", "3")
    with pytest.raises(DataError, match=r"by the ledger's head in .*digits\.head \(AE_LEDGER_HEAD\) the champion is 2"):
        trusted_bundle(project, decided, recipe_of(project), "champion")


def test_a_ledger_and_an_mlflow_put_back_together_are_found_by_the_head(
    decided: Store, project: Project, head: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = ledger.ledger_file(project, "digits")
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    decided.client.delete_registered_model_tag("digits", "ledger.00005")
    decided.move_champion("digits", "1")
    assert promotion.find_problems(decided, "digits") == []
    assert ae("ledger", "verify", "digits", "--head", head) == DataError.exit_code
    assert "does not hold the entry number 5" in capsys.readouterr().out
    monkeypatch.setenv("AE_LEDGER_HEAD", str(head))
    with pytest.raises(DataError, match="does not hold the entry number 5"):
        trusted_bundle(project, decided, recipe_of(project), "champion")


def test_a_ledger_that_goes_on_after_its_head_still_holds_it(decided: Store, project: Project, head: Path) -> None:
    promotion.rollback(decided, "digits", "3", who="ada", why="better after all")
    assert ae("ledger", "verify", "digits", "--head", head) == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda head: head | {"number": "5"}, "wrong type"),
        (lambda head: head | {"last_move": head["last_move"] | {"to": "3"}}, "last_move was edited"),
        (lambda head: {"hash": head["hash"]}, "expected an object with exactly"),
        (lambda head: [], "expected an object with exactly"),
        (lambda head: head | {"signature": {"key": "k"}}, "expected an object with exactly number, hash, key"),
    ],
)
def test_what_is_no_head_is_named(head: Path, change: Any, told: str) -> None:
    head.write_text(json.dumps(change(json.loads(head.read_text(encoding="utf-8")))), encoding="utf-8")
    with pytest.raises(DataError, match=rf"line 1 of .*digits\.head is no head of a ledger \(.*{told}"):
        read_heads(head)


def test_a_head_of_other_recipes_or_none_is_told(
    decided: Store, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AE_LEDGER_HEAD", str(tmp_path / "absent"))
    with pytest.raises(DataError, match=r"there is no file .*absent; expected a file that `ae ledger head > FILE` wrote"):
        read_anchor(project, "digits")
    (tmp_path / "absent").mkdir()
    with pytest.raises(DataError, match=r"absent cannot be read \(Is a directory\); expected a file that"):
        read_anchor(project, "digits")
    (tmp_path / "absent").rmdir()
    (tmp_path / "absent").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="absent holds no text but other bytes"):
        read_anchor(project, "digits")
    (tmp_path / "absent").write_bytes(b"")
    with pytest.raises(DataError, match="holds no head of digits, but of none"):
        read_anchor(project, "digits")


# ---------------------------------------------------------------- a service that watches


def test_a_service_stays_with_the_ledgers_champion_and_says_so(
    decided: Store, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aeops.registry.alias_watch.POLL_SECONDS", 0)
    watch = AliasWatch(project, "digits", "champion")
    watch.set_version("2")
    watch._fetch_in_process = lambda: decided.champion("digits").version  # type: ignore[method-assign,union-attr]
    decided.move_champion("digits", "3")
    for _ in range(20):
        assert watch.poll() is None
        if watch._query is not None:
            watch._query.join()
    assert "points to 3, but by the ledger the champion is 2" in str(watch.error)
    promotion.rollback(decided, "digits", "3", who="ada", why="accepted")
    assert (watch.poll(), watch.error) == (AliasChange("3"), None)


def test_a_service_without_the_ledger_follows_the_head(
    decided: Store, project: Project, head: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AE_LEDGER_HEAD", str(head))
    elsewhere = Project(root=project.root, home=tmp_path / "elsewhere")
    watch = AliasWatch(elsewhere, "digits", "champion")
    watch.set_version("2")
    assert (watch.poll(), watch.error) == (None, None)
    promotion.rollback(decided, "digits", "3", who="ada", why="better after all")
    monkeypatch.delenv("AE_LEDGER_HEAD")
    text = json.dumps(build_head(project, "digits", ledger.read_entries(project, "digits")).to_dict())
    monkeypatch.setenv("AE_LEDGER_HEAD", str(head))
    head.write_text(text, encoding="utf-8")
    os.utime(head, ns=(1, 1))
    assert watch.poll() == AliasChange("3")


# ---------------------------------------------------------------- signed lines


@pytest.fixture
def signing(decided: Store, project: Project) -> Path:
    """The recipe requires signatures, and the champion's bundle and line are signed; the private key."""
    for name in ("ours", "theirs"):
        new_keys(project.root / "keys" / name)
    given = yaml.safe_load(project.recipe_file("digits").read_text(encoding="utf-8"))
    given["signature"] = {"require_signature": True, "public_key": "keys/ours.pub"}
    project.recipe_file("digits").write_text(yaml.safe_dump(given), encoding="utf-8")
    return project.root / "keys" / "ours.pem"


def anchor_problem(project: Project) -> str:
    return LedgerChampion(project, recipe_of(project)).find_problem("2", str(read_anchor(project, "digits").bundle_sha256)) or ""


def test_a_line_that_makes_a_champion_has_to_be_signed_where_the_recipe_demands_it(
    decided: Store, project: Project, signing: Path
) -> None:
    assert anchor_problem(project).endswith("which makes version 2 the champion, is not signed")
    [problem] = promotion.find_problems(decided, "digits")
    assert "`ae sign digits champion --key PRIVATE.pem`" in problem
    line = ledger.read_entries(project, "digits")[-1]
    sign_entry(project, line, project.root / "keys" / "theirs.pem")
    assert "and not with ours.pub" in anchor_problem(project)
    sign_entry(project, line, signing)
    assert anchor_problem(project) == ""
    assert promotion.find_problems(decided, "digits") == []


def test_an_older_signature_says_nothing_of_a_newer_line(
    decided: Store, project: Project, signing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AE_SIGNING_KEY", str(signing))
    promotion.rollback(decided, "digits", "3", who="ada", why="signed as it is written")
    assert promotion.find_problems(decided, "digits") == []
    monkeypatch.delenv("AE_SIGNING_KEY")
    promotion.rollback(decided, "digits", "1", who="eve", why="to the weak one")
    [problem] = promotion.find_problems(decided, "digits")
    assert "line 7 of its ledger, which makes version 1 the champion, is not signed" in problem
    file = signatures_file(project, "digits")
    forged = json.loads(file.read_text(encoding="utf-8").splitlines()[0])
    newest = ledger.read_entries(project, "digits")[-1]
    file.write_text(json.dumps(forged | {"number": newest.number, "hash": newest.hash}) + "\n", encoding="utf-8")
    [problem] = promotion.find_problems(decided, "digits")
    assert "was not made with the private key of ours.pub" in problem


def test_without_the_recipes_key_nothing_is_moved_by_rollback(
    decided: Store, project: Project, signing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ledger.ledger_file(project, "digits").read_bytes()
    monkeypatch.setattr("aeops.registry.trust.find_trust_problem", lambda *_: None)  # the bundles here are of a few bytes
    with pytest.raises(UsageError, match=r"has to be signed, too: set AE_SIGNING_KEY .*nothing was moved"):
        ae("rollback", "digits", "--why", "as it was")
    monkeypatch.setenv("AE_SIGNING_KEY", "keys/theirs.pem")
    with pytest.raises(UsageError, match=r"theirs\.pem is the key [0-9a-f]{12}, expected the key"):
        ae("rollback", "digits", "--why", "as it was")
    assert ledger.ledger_file(project, "digits").read_bytes() == before


def test_the_ledgers_own_champion_name_the_recipes(project: Project, decided: Store, signing: Path) -> None:
    sign_entry(project, ledger.read_entries(project, "digits")[-1], signing)
    assert ledger.recipes_with_ledger(project) == ["digits"]


def test_a_damaged_line_of_signatures_leaves_the_others_valid(
    project: Project, decided: Store, signing: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sign_entry(project, ledger.read_entries(project, "digits")[-1], signing)
    file = signatures_file(project, "digits")
    whole = file.read_text(encoding="utf-8")
    for damaged_line in ("", "{", "{}", "[" * 100_000):
        file.write_text(f"{damaged_line}\n{whole}", encoding="utf-8")
        assert anchor_problem(project) == ""
        assert f"line 1 of {file} is no signature" in caplog.text
    file.unlink()
    file.mkdir()
    with pytest.raises(DataError, match=r"the signatures .* cannot be read \(Is a directory\)"):
        anchor_problem(project)


def test_a_signature_that_is_added_later_lets_a_service_look_again(project: Project, decided: Store, signing: Path) -> None:
    watch = AliasWatch(project, "digits", "champion")
    watch.set_version("1")
    assert watch.poll() is None
    sign_entry(project, ledger.read_entries(project, "digits")[-1], signing)
    assert watch.poll() == AliasChange("2")
    assert watch.poll() is None


def test_a_ledger_that_cannot_be_read_now_refuses_nobody_for_ever(project: Project, decided: Store) -> None:
    file = ledger.ledger_file(project, "digits")
    sha256 = str(read_anchor(project, "digits").bundle_sha256)
    file.unlink()
    file.symlink_to("/proc/self/mem")  # a file whose reading fails with EIO
    with pytest.raises(InfrastructureError, match="Input/output error"):
        LedgerChampion(project, recipe_of(project)).find_problem("2", sha256)


def test_a_service_that_starts_amid_a_promotion_waits_where_it_shares_the_ledger_and_not_the_locks(
    project: Project, decided: Store, tmp_path: Path
) -> None:
    sharing = Project(root=project.root, home=tmp_path / "elsewhere")
    sharing.home.mkdir()
    (sharing.home / "ledger").symlink_to(project.home / "ledger")
    promotion.rollback(decided, "digits", "3", who="ada", why="better after all")
    decided.move_champion("digits", "2")  # as it is between the ledger's entry and the alias
    completing = threading.Timer(0.5, lambda: open_store(project).move_champion("digits", "3"))
    completing.start()
    try:
        champion = find_champion(sharing, decided, "digits")
    finally:
        completing.join()
    assert champion is not None
    assert champion.version == "3"
