"""Signed bundles: real keys, a real MLflow on SQLite, and somebody who may write to all of it but has not the key."""

import base64
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from champion_helpers import make_champion
from checkout import rehome
from digits_recipe import single_model_recipe
from model_signing.signing import Config

from ae_models.checksums import bundle_sha256, write_checksums
from aeops.bundle.signing import SIGNATURE_FILE, find_signature_problem, new_keys, sign
from aeops.cli import serve
from aeops.cli.main import build_parser, main
from aeops.errors import DataError, GateError, UsageError
from aeops.project import Project
from aeops.recipe.reader import load_recipe
from aeops.registry.database import database_file, prepare_database
from aeops.registry.signatures import fetch_signature, sign_version
from aeops.registry.store import Store, open_store
from aeops.registry.trust import find_trust_problem, require_signed, trusted_bundle
from aeops.serving.rollover import FetchedBundle

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "tests" / "fixtures" / "bundle-format-1"
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs: ours and theirs."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        new_keys(folder / name)
    return folder


# ---------------------------------------------------------------- keys


def test_a_new_private_key_is_its_owners_alone_and_is_never_overwritten(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        name = new_keys(tmp_path / "keys" / "ops")
    finally:
        os.umask(before)
    private, public = tmp_path / "keys" / "ops.pem", tmp_path / "keys" / "ops.pub"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert len(name) == 64
    kept = private.read_bytes()
    with pytest.raises(UsageError, match=r"ops\.pem is there already"):
        new_keys(tmp_path / "keys" / "ops")
    private.unlink()
    with pytest.raises(UsageError, match=r"ops\.pub is there already"):
        new_keys(tmp_path / "keys" / "ops")
    assert b"PRIVATE" in kept
    assert b"PRIVATE" not in public.read_bytes()


def test_git_never_takes_a_private_key_in() -> None:
    assert subprocess.run(["git", "check-ignore", "-q", "keys/ops.pem"], cwd=ROOT, check=False).returncode == 0
    assert subprocess.run(["git", "check-ignore", "-q", "keys/ops.pub"], cwd=ROOT, check=False).returncode == 1


def with_password(folder: Path) -> None:
    command = ["openssl", "ec", "-in", str(folder / "key.pem"), "-aes128", "-passout", "pass:secret", "-out", "locked.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def test_what_is_no_private_key_cannot_sign(keys: Path, tmp_path: Path) -> None:
    shutil.copy(keys / "ours.pem", tmp_path / "key.pem")
    (tmp_path / "words.pem").write_text("hello", encoding="utf-8")
    if shutil.which("openssl"):
        with_password(tmp_path)
        made = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(tmp_path / "other.pem")]
        subprocess.run(made, check=True, capture_output=True)
    cases = {
        keys / "ours.pub": "holds no such key; expected a private P-256",
        tmp_path / "words.pem": "holds no such key",
        tmp_path / "absent.pem": "cannot be read (No such file or directory)",
        tmp_path: "cannot be read (Is a directory)",
        tmp_path / "locked.pem": "in PEM without a password",
        tmp_path / "other.pem": "holds a key of another kind",
    }
    for file, told in cases.items():
        if file.exists() or file.name == "absent.pem":
            with pytest.raises(UsageError) as caught:
                sign(BUNDLE, file, tmp_path / SIGNATURE_FILE)
            assert told in str(caught.value), file
    assert not (tmp_path / SIGNATURE_FILE).exists()


# ---------------------------------------------------------------- a folder and its signature


@pytest.fixture
def signed(keys: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of a bundle, and a signature of it by our key."""
    bundle = Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))
    sign(bundle, keys / "ours.pem", tmp_path / SIGNATURE_FILE)
    return bundle, tmp_path / SIGNATURE_FILE


def flip(file: Path) -> None:
    """Changes the lowest bit of the last byte."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def linked(bundle: Path) -> None:
    (bundle / "model.onnx").rename(bundle.parent / "elsewhere.onnx")
    (bundle / "model.onnx").symlink_to(bundle.parent / "elsewhere.onnx")


def nested(bundle: Path) -> None:
    (bundle / "code").mkdir()
    (bundle / "code" / "x.py").write_text("", encoding="utf-8")


CHANGES: dict[str, tuple[Change, str]] = {
    "a bit of the model": (lambda bundle: flip(bundle / "model.onnx"), "model.onnx was altered after it was signed"),
    "a bit of the sums": (lambda bundle: flip(bundle / "SHA256SUMS"), "SHA256SUMS was altered after it was signed"),
    "a file more": (lambda bundle: (bundle / "decoder.onnx").touch(), "decoder.onnx is not covered by the signature"),
    "a file of git's": (lambda bundle: (bundle / ".gitignore").touch(), ".gitignore is not covered by the signature"),
    "a file in a folder": (nested, "code/x.py is not covered by the signature"),
    "a file less": (lambda bundle: (bundle / "scorer.safetensors").unlink(), "scorer.safetensors is missing, and was signed"),
    "a link in place of a file": (linked, "model.onnx was altered after it was signed"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_signature_holds_for_every_file_as_it_was_and_for_no_other(change: str, signed: tuple[Path, Path], keys: Path) -> None:
    bundle, signature = signed
    assert find_signature_problem(bundle, signature, keys / "ours.pub") is None
    CHANGES[change][0](bundle)
    assert find_signature_problem(bundle, signature, keys / "ours.pub") == CHANGES[change][1]


def test_a_file_of_gits_is_signed_like_any_other(keys: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))
    (bundle / ".gitignore").write_text("*.tmp", encoding="utf-8")
    sign(bundle, keys / "ours.pem", tmp_path / SIGNATURE_FILE)
    assert find_signature_problem(bundle, tmp_path / SIGNATURE_FILE, keys / "ours.pub") is None


def test_the_bundles_folder_may_be_called_otherwise(signed: tuple[Path, Path], keys: Path) -> None:
    bundle, signature = signed
    assert find_signature_problem(bundle.rename(bundle.with_name("7")), signature, keys / "ours.pub") is None


def test_a_signature_of_another_key_is_told_with_both_and_a_false_name_does_not_help(
    signed: tuple[Path, Path], keys: Path
) -> None:
    bundle, signature = signed
    ours = json.loads(signature.read_text(encoding="utf-8"))["verificationMaterial"]
    sign(bundle, keys / "theirs.pem", signature)
    fault = find_signature_problem(bundle, signature, keys / "ours.pub")
    assert fault is not None
    assert f"and not with ours.pub ({ours['publicKey']['hint'][:12]})" in fault
    forged = json.loads(signature.read_text(encoding="utf-8")) | {"verificationMaterial": ours}
    signature.write_text(json.dumps(forged), encoding="utf-8")
    assert (
        find_signature_problem(bundle, signature, keys / "ours.pub")
        == "its signature was not made with the private key of ours.pub"
    )


def test_a_signature_that_leaves_a_file_out_is_refused_though_the_key_is_ours(signed: tuple[Path, Path], keys: Path) -> None:
    bundle, signature = signed
    (bundle / ".gitignore").touch()  # model-signing's own settings leave it out, and tell whoever verifies to do so
    Config().use_elliptic_key_signer(private_key=keys / "ours.pem").sign(bundle, signature)
    assert find_signature_problem(bundle, signature, keys / "ours.pub") == ".gitignore is not covered by the signature"


def damaged(document: dict[str, object], keys: Path) -> dict[str, bytes]:
    envelope, material = dict(document["dsseEnvelope"]), dict(document["verificationMaterial"])  # type: ignore[call-overload]
    whole = json.loads(base64.b64decode(envelope["payload"]))
    whole["predicate"]["resources"] = [entry for entry in whole["predicate"]["resources"] if entry["name"] != "model.onnx"]
    fewer = base64.b64encode(json.dumps(whole).encode()).decode()
    versions = {
        "another payload": document | {"dsseEnvelope": envelope | {"payload": fewer}},
        "no signature in it": document | {"dsseEnvelope": envelope | {"signatures": []}},
        "nobody named": document | {"verificationMaterial": material | {"publicKey": {}}},
        "a certificate": document | {"verificationMaterial": {"certificate": {"rawBytes": "AAAA"}, "tlogEntries": []}},
        "another type": document | {"mediaType": "text/plain"},
        "no envelope": {name: value for name, value in document.items() if name != "dsseEnvelope"},
    }
    files = {name: json.dumps(version).encode() for name, version in versions.items()}
    return files | {"empty": b"", "no object": b"[]", "bytes": b"\xff\xfe\x00", "cut": json.dumps(document).encode()[:-40]}


def test_a_damaged_signature_is_refused_and_no_crash(
    signed: tuple[Path, Path], keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, signature = signed
    for kind, content in damaged(json.loads(signature.read_text(encoding="utf-8")), keys).items():
        signature.write_bytes(content)
        fault = find_signature_problem(bundle, signature, keys / "ours.pub")
        assert fault is not None, kind
        assert "signature" in fault, kind
    assert capsys.readouterr().out == ""  # nothing between the lines of `ae score --json`


# ---------------------------------------------------------------- a registered version


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("database")
    prepare_database(Project(root=place, home=place))
    return database_file(Project(root=place, home=place))


@pytest.fixture(scope="module")
def unsigned(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose champion 1 is not signed; tests take copies, as registering takes seconds."""
    folder = tmp_path_factory.mktemp("unsigned")
    project = Project(root=folder, home=folder / ".ae")
    project.mlflow.mkdir(parents=True)
    shutil.copyfile(database, database_file(project))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "AE_HOME"):
            patch.delenv(name, raising=False)
        register(open_store(project), champion_bundle(folder / "bundle"))
    return project


@pytest.fixture
def project(unsigned: Project, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project that requires signatures of our key; it is the current folder, and its champion 1 is not signed."""
    for name in ("MLFLOW_TRACKING_URI", "AE_HOME", "AE_SIGNING_KEY"):
        monkeypatch.delenv(name, raising=False)
    made = Project(root=tmp_path / "project", home=tmp_path / "project" / ".ae")
    made.recipes.mkdir(parents=True)
    shutil.copy(ROOT / "dvc.yaml", made.root)
    shutil.copytree(keys, made.root / "keys")
    require(made, {"require_signature": True, "public_key": "keys/ours.pub"})
    shutil.copytree(unsigned.home, made.home)
    rehome(made.home)
    monkeypatch.chdir(made.root)
    champion_bundle(tmp_path / "bundle")
    return made


def champion_bundle(folder: Path) -> Path:
    """Write the bundle that is champion 1."""
    bundle = Path(shutil.copytree(BUNDLE, folder))
    (bundle / "decoder.onnx").write_bytes(b"of no use here")  # a file that a bundle may have and may lack
    made_for(bundle, "digits")
    return bundle


def made_for(bundle: Path, recipe: str) -> None:
    document = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    (bundle / "bundle.json").write_text(json.dumps(document | {"recipe": recipe}), encoding="utf-8")
    write_checksums(bundle)


def require(project: Project, section: object) -> None:
    """Writes the recipe `digits` with this section `signature`."""
    recipe = single_model_recipe() | {"signature": section}
    project.recipe_file("digits").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")


def register(store: Store, bundle: Path) -> str:
    run = store.start_run("digits", {}, {}, {"dataset": "digits", "content_sha256": "c" * 64})
    version = store.register(run, "digits", bundle, {"verdict": "accepted"}, "# digits")
    make_champion(store, "digits", version)
    return version


@pytest.fixture
def store(project: Project) -> Store:
    return open_store(project)


def trusted(project: Project) -> Path:
    recipe = load_recipe(project, "digits", with_keys=True)
    return trusted_bundle(project, open_store(project), recipe, "champion").folder


def kept_bundle(project: Project) -> Path:
    """Where MLflow keeps the bundle of the only version."""
    [sums] = (project.mlflow / "artifacts").rglob("SHA256SUMS")
    return sums.parent


def kept_signature(project: Project) -> Path:
    [file] = (project.mlflow / "artifacts").rglob(SIGNATURE_FILE)
    return file


@pytest.mark.slow
def test_an_unsigned_bundle_is_refused_and_a_signed_one_is_not(project: Project, store: Store) -> None:
    with pytest.raises(DataError) as caught:
        trusted(project)
    assert str(caught.value) == (
        "digits 1 is refused: it is not signed; recipes/digits.yaml requires a signature of keys/ours.pub. If you have that "
        "private key and trust this bundle: `ae sign digits 1 --key PRIVATE.pem`, then type the same command again"
    )
    name = sign_version(store, "digits", "champion", project.root / "keys" / "ours.pem")
    assert store.version("digits", "1").tags["signature"] == name
    assert kept_signature(project).parent.name == bundle_sha256(trusted(project))[:12]


@pytest.mark.slow
def test_signing_twice_leaves_the_first_signature_and_a_damaged_one_is_replaced(project: Project, store: Store) -> None:
    key = project.root / "keys" / "ours.pem"
    sign_version(store, "digits", "1", key)
    first = kept_signature(project).read_bytes()
    sign_version(store, "digits", "1", key)
    assert kept_signature(project).read_bytes() == first
    kept_signature(project).write_bytes(first[:-9])
    with pytest.raises(DataError, match="its signature cannot be read"):
        trusted(project)
    sign_version(store, "digits", "1", key)
    assert trusted(project).name == "1"


@pytest.mark.slow
def test_a_version_stays_signed_when_a_later_run_comes_to_the_same_bundle(project: Project, store: Store, tmp_path: Path) -> None:
    sign_version(store, "digits", "1", project.root / "keys" / "ours.pem")
    assert register(store, tmp_path / "bundle") == "1"
    assert store.version("digits", "1").run_id != store.client.get_model_version("digits", "1").run_id
    assert trusted(project).name == "1"


TAMPERINGS: dict[str, tuple[Change, str]] = {
    "a byte": (lambda bundle: flip(bundle / "weights.safetensors"), "weights.safetensors was altered after it was signed"),
    "a file more": (lambda bundle: (bundle / "tokenizer.json").touch(), "tokenizer.json is not covered by the signature"),
    "a file less": (lambda bundle: (bundle / "decoder.onnx").unlink(), "decoder.onnx is missing, and was signed"),
}


@pytest.mark.slow
@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_whoever_may_write_to_the_registry_cannot_change_a_signed_bundle(tampering: str, project: Project, store: Store) -> None:
    sign_version(store, "digits", "1", project.root / "keys" / "ours.pem")
    change, told = TAMPERINGS[tampering]
    bundle = kept_bundle(project)
    change(bundle)
    write_checksums(bundle)
    store.client.set_model_version_tag("digits", "1", "bundle_sha256", bundle_sha256(bundle))
    with pytest.raises(
        DataError, match=r"digits 1 is refused: its bundle is [0-9a-f]{12}, but by the ledger .*changed outside `ae`"
    ):
        trusted(project)
    assert re.fullmatch(r"it was signed as the bundle [0-9a-f]{12} and is now [0-9a-f]{12}", signature_problem(project, store))
    folder = kept_signature(project).parent
    folder.rename(folder.with_name(bundle_sha256(bundle)[:12]))
    assert told in signature_problem(project, store)


def signature_problem(project: Project, store: Store) -> str:
    """What the signature of version 1 says by itself, without the ledger."""
    version = store.version("digits", "1")
    bundle = store.bundle_of("digits", version)
    return find_trust_problem(project, store, load_recipe(project, "digits"), version, bundle) or ""


def test_a_signature_of_a_foreign_key_in_the_registry_is_refused(project: Project, store: Store) -> None:
    sign_version(store, "digits", "1", project.root / "keys" / "ours.pem")
    sign(kept_bundle(project), project.root / "keys" / "theirs.pem", kept_signature(project))
    with pytest.raises(DataError, match=r"it is signed with the key [0-9a-f]{12}, and not with ours\.pub"):
        trusted(project)


def test_another_key_than_the_recipes_does_not_replace_a_signature_that_counts(project: Project, store: Store) -> None:
    sign_version(store, "digits", "1", project.root / "keys" / "ours.pem")
    before = kept_signature(project).read_bytes()
    with pytest.raises(UsageError, match=r"theirs\.pem is the key .*, expected the key .*, as .* is keys/ours\.pub"):
        sign_version(store, "digits", "1", project.root / "keys" / "theirs.pem")
    assert kept_signature(project).read_bytes() == before


@pytest.mark.slow
def test_a_bundle_that_was_signed_for_another_recipe_is_refused(project: Project, store: Store, tmp_path: Path) -> None:
    made_for(tmp_path / "bundle", "letters")
    register(store, tmp_path / "bundle")
    sign_version(store, "digits", "2", project.root / "keys" / "ours.pem")
    with pytest.raises(DataError, match="digits 2 is refused: it is signed as a bundle of the recipe letters; recipes"):
        trusted(project)


@pytest.mark.slow
def test_a_new_key_in_the_recipe_asks_for_a_new_signature(project: Project, store: Store) -> None:
    sign_version(store, "digits", "1", project.root / "keys" / "ours.pem")
    require(project, {"require_signature": True, "public_key": "keys/theirs.pub"})
    with pytest.raises(DataError, match=r"not with theirs\.pub"):
        trusted(project)
    sign_version(store, "digits", "1", project.root / "keys" / "theirs.pem")
    assert trusted(project).name == "1"


@pytest.mark.slow
@pytest.mark.parametrize("section", [{"require_signature": False}, {"require_signature": False, "public_key": "keys/ours.pub"}])
def test_where_none_is_required_none_is_asked_for(section: object, project: Project, store: Store) -> None:
    require(project, section)
    assert trusted(project).name == "1"
    require_signed(project, store, load_recipe(project, "digits"), "1")


def test_promotion_waits_for_the_signature(project: Project, store: Store) -> None:
    recipe = load_recipe(project, "digits")
    with pytest.raises(GateError, match=r"not promoted: digits 1 is refused: it is not signed; .* `ae run digits` again"):
        require_signed(project, store, recipe, "1")
    sign_version(store, "digits", "1", project.root / "keys" / "ours.pem")
    require_signed(project, store, recipe, "1")


# ---------------------------------------------------------------- the recipe


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"require_signature": True}, "signature: require_signature is true and public_key is missing"),
        ({"public_key": "keys/ours.pub"}, "signature: the key require_signature is missing"),
        ({"require_signature": "yes"}, "signature.require_signature: expected true or false, got 'yes'"),
        ({"require_signatures": True}, "did you mean require_signature?"),
        (None, "signature: expected a mapping with require_signature, public_key, got nothing"),
    ],
)
def test_a_section_that_cannot_be_is_told_at_reading(section: object, told: str, project: Project) -> None:
    require(project, section)
    with pytest.raises(UsageError) as caught:
        load_recipe(project, "digits")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("absent.pub", "cannot be read (No such file"),
        ("ours.pem", "holds no such key; expected a public P-256"),
        ("", "Is a directory"),
    ],
)
def test_a_public_key_that_cannot_be_read_is_told_with_every_other_mistake_and_only_where_it_is_used(
    name: str, told: str, project: Project
) -> None:
    require(project, {"require_signature": True, "public_key": f"keys/{name}"})
    assert load_recipe(project, "digits").signature.require_signature
    with pytest.raises(UsageError, match=r"recipes/digits\.yaml: signature\.public_key: ") as caught:
        load_recipe(project, "digits", with_keys=True)
    assert told in str(caught.value)
    text = project.recipe_file("digits").read_text(encoding="utf-8")
    project.recipe_file("digits").write_text(text.replace("recipe: digits", "recipe: other"), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_recipe(project, "digits", with_keys=True)
    assert len(str(caught.value).splitlines()) == 2


# ---------------------------------------------------------------- the verbs


def ae(*arguments: object) -> int:
    given = build_parser().parse_args([str(argument) for argument in arguments])
    return int(given.run(given))


@pytest.mark.slow
@pytest.mark.usefixtures("modules_in_forks")
def test_every_verb_that_loads_a_version_refuses_an_unsigned_one(project: Project, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros((28, 28), np.uint8))
    verbs: list[Callable[[], object]] = [
        lambda: ae("score", "digits", tmp_path / "one.npy"),
        lambda: ae("embed", "digits", tmp_path / "one.npy", "-o", tmp_path / "codes.parquet"),
        lambda: serve.fetch_version(project, "digits", "champion"),  # what `ae serve` does first
    ]
    for verb in verbs:
        with pytest.raises(DataError, match=r"digits 1 is refused: it is not signed; .* `ae sign digits 1 --key PRIVATE\.pem`"):
            verb()
    assert not (tmp_path / "codes.parquet").exists()


def test_no_verb_takes_a_bundle_past_the_check() -> None:
    loading = [file for file in (ROOT / "aeops" / "cli").glob("*.py") if "Detector(" in file.read_text(encoding="utf-8")]
    assert {file.stem for file in loading} >= {"score", "serve", "embed", "compress", "decompress"}
    for file in [*loading, ROOT / "aeops" / "registry" / "fetch.py"]:
        assert "download_bundle" not in file.read_text(encoding="utf-8"), file


@pytest.mark.slow
@pytest.mark.usefixtures("modules_in_forks")
def test_ae_sign_signs_with_the_key_given_or_the_one_in_the_environment(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, store: Store, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"expected a private key: type `ae sign digits champion --key PRIVATE\.pem`"):
        ae("sign", "digits", "champion")
    monkeypatch.setenv("AE_SIGNING_KEY", "keys/ours.pem")
    assert ae("sign", "digits", "champion") == 0
    name = store.version("digits", "1").tags["signature"]
    bundle = trusted(project)
    assert capsys.readouterr().out == f"digits 1 (bundle {bundle_sha256(bundle)[:12]}) is signed with the key {name[:12]}\n"
    monkeypatch.setenv("AE_SIGNING_KEY", "keys/absent.pem")
    assert ae("sign", "digits", "1", "--key", "keys/ours.pem") == 0
    assert fetch_signature(store, "digits", "1", bundle, tmp_path / "kept") is not None
    assert serve.fetch_version(project, "digits", "champion") == FetchedBundle("1", bundle, bundle_sha256(bundle))


def test_ae_sign_makes_keys_and_says_what_to_write(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert ae("sign", "--new-keys", "keys/ops") == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("signature:")]
    require(project, yaml.safe_load(line)["signature"])
    assert load_recipe(project, "digits", with_keys=True).signature.public_key == "keys/ops.pub"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["digits"], "expected RECIPE and VERSION"),
        (["--new-keys", "keys/x", "digits", "1"], "--new-keys: expected no other argument"),
        (["--new-keys", "keys/x.pem"], "expected a name without .pem, such as keys/x, got keys/x.pem"),
        (["--new-keys", "keys/ours"], "is there already"),
        (["--new-keys", "dvc.yaml/x"], "cannot write dvc.yaml"),
        (["digist", "1", "--key", "keys/ours.pem"], "did you mean digits?"),
        (["digits", "7", "--key", "keys/ours.pem"], "no version '7' of digits"),
        (["digits", "1", "--key", "keys/absent.pem"], "cannot be read"),
    ],
)
def test_what_ae_sign_cannot_do_is_said_with_what_it_can(
    arguments: list[str], told: str, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sign", *arguments]) == UsageError.exit_code
    assert told in capsys.readouterr().err
