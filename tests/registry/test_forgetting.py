"""`ae forget`: a sample goes from the data and from all that was made of it; a kill leaves nothing half."""

import hashlib
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from data_project import CHECKOUT, accept_unjudged, tree
from shipped_digits import shipped_digits

from ae_models.checksums import bundle_sha256, write_checksums
from aeops.cli.main import main as ae
from aeops.data import dvc
from aeops.data.dataset import content_sha256, read_index, read_shards, require_receipt
from aeops.data.judgements import RELEASE, Judgement, read_judgements, record_judgements
from aeops.data.stored_objects import FOLDER_SUFFIX, object_file
from aeops.data.widening import Widening, record_widenings
from aeops.errors import AeError, DataError, InfrastructureError, UsageError
from aeops.predictions.prediction_store import call_file, find_prediction, write_call
from aeops.predictions.rows import predictions_schema
from aeops.project import Project
from aeops.provenance.forgetting import carry_out
from aeops.provenance.rebuild.plan import make_plan
from aeops.recipe.reader import load_recipe
from aeops.registry import ledger, promotion
from aeops.registry.aliases import CHALLENGER
from aeops.registry.store import Store
from aeops.stages.ingest import ingest

WHEN = datetime(2026, 3, 1, tzinfo=UTC)
COUNT = 80


class Site:
    """A project with accepted digits, DVC's stores, three versions and predictions.

    Attributes:
        gone: the id of the sample that is to be forgotten, which is trained on; with its bytes.
    """

    def __init__(self, project: Project, store: Store) -> None:
        self.project, self.store = project, store
        recipe = yaml.safe_load((CHECKOUT / "recipes" / "digits.yaml").read_text())
        recipe["data"]["source"] = {"kind": "npy", "path": "images.npy", "labels": "labels.npy"}
        (project.root / "recipes" / "digits.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
        (project.root / ".dvc").mkdir()
        (project.root / ".dvc" / "config").write_text(
            "[core]\n    remote = local\n['remote \"local\"']\n    url = ../.ae/dvc-remote\n"
        )
        self.cache, self.remote = project.root / ".dvc" / "cache", project.home / "dvc-remote"
        self.remote.mkdir(parents=True)
        images, labels = shipped_digits()
        chosen = np.arange(0, 5000, 5000 // COUNT)[:COUNT]
        self.images, self.labels = images[chosen], labels[chosen]
        self.save(20)
        self.old_content = self.accept()
        self.old_md5 = self.put(self.data)  # as DVC stores it, which takes seconds
        self.save(COUNT)
        self.content = self.accept()
        self.md5 = dvc.add_dataset(project, "digits")
        index = read_index(self.data)
        row = index[(index["split"] == "train") & (index["id"] >= "digits-000020")].iloc[0]
        self.gone, self.sha256 = str(row["id"]), str(row["sha256"])
        self.bytes = self.images[int(self.gone[-6:])].tobytes()

    @property
    def data(self) -> Path:
        return self.project.dataset("digits")

    def save(self, count: int) -> None:
        np.save(self.project.root / "images.npy", self.images[:count])
        np.save(self.project.root / "labels.npy", self.labels[:count])

    def accept(self) -> str:
        incoming = self.project.incoming("digits")
        ingest(load_recipe(self.project, "digits"), self.project, incoming, whole=True)
        shutil.rmtree(self.data, ignore_errors=True)
        accept_unjudged(incoming, self.data)
        return content_sha256(self.data)

    def put(self, folder: Path) -> str:
        """Store a folder as DVC does, in cache and remote; return its hash."""
        entries = []
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                md5 = hashlib.md5(file.read_bytes()).hexdigest()  # as DVC names files
                entries.append({"md5": md5, "relpath": file.relative_to(folder).as_posix()})
                self._store(md5, file.read_bytes())
        listed = json.dumps(entries).encode()
        md5 = hashlib.md5(listed).hexdigest() + FOLDER_SUFFIX
        self._store(md5, listed)
        return md5

    def _store(self, md5: str, content: bytes) -> None:
        for store in (self.cache, self.remote):
            file = object_file(store, md5)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    def register(self, word: str, score: dict[str, Any], content: str, md5: str) -> str:
        """Register a bundle with a report in its run, and store what its stages made."""
        artifacts = self.project.artifacts("digits")
        shutil.rmtree(artifacts, ignore_errors=True)
        for name in ("prepared", "bundle", "report/figures"):
            (artifacts / name).mkdir(parents=True)
        np.save(artifacts / "prepared" / "test.npy", self.images[:COUNT] if content == self.content else self.images[:20])
        (artifacts / "prepared" / "prepared.json").write_text(json.dumps({"content_sha256": content}))
        input_section = {"kind": "image", "shape": [1, 28, 28], "low": 0, "high": 255}
        described = {"format": 1, "input": input_section, "score": score, "data": {"content_sha256": content}}
        (artifacts / "bundle" / "bundle.json").write_text(json.dumps(described))
        bank = self.images[: COUNT if content == self.content else 20].tobytes() if score is BANK else b""
        for name, held in (("model.onnx", bank), ("scorer.safetensors", bank), ("weights.safetensors", b"")):
            (artifacts / "bundle" / name).write_bytes(word.encode() + held)
        write_checksums(artifacts / "bundle")
        reference = pa.table({"score": [0.5]}).replace_schema_metadata({"bundle_sha256": bundle_sha256(artifacts / "bundle")})
        pq.write_table(reference, artifacts / "report" / "reference.parquet")
        (artifacts / "report" / "figures" / "gallery.svg").write_text(f"a picture of {word}")
        for name in ("prepared", "bundle", "report"):
            self.put(artifacts / name)
        run = self.store.start_run("digits", {}, {}, {"dataset": "digits", "content_sha256": content})
        (self.project.root / "report.html").write_text(f"pictures of {word}")
        self.store.log_files(run, [self.project.root / "report.html", artifacts / "report" / "figures"])
        tags = {"data.dataset": "digits", "data.content_sha256": content, "data.dvc_md5": md5, "git.commit": "none"}
        return self.store.register(run, "digits", artifacts / "bundle", tags, "")

    def predict(self) -> str:
        """Record a call with two samples, the second of which is to be forgotten; return that one's id."""
        rows = [
            {"id": f"7f3a9c2e-{row}", "time": WHEN, "recipe": "digits", "version": "1", "bundle_sha256": "b", "sample": name}
            | {"sample_sha256": sha256, "score": 0.5, "p_value": 0.1, "is_anomaly": False, "threshold": 1.0, "channel": "hand"}
            | {"mean": 0.2, "std": 0.3, "code": [1.0, 2.0], "flags": []}
            for row, (name, sha256) in enumerate([("other.npy", "a" * 64), ("renamed.npy", self.sha256)])
        ]
        batch = pa.RecordBatch.from_pylist(rows, schema=predictions_schema())
        write_call(call_file(self.project, "digits", WHEN, "7f3a9c2e"), [batch])
        return "7f3a9c2e-1"

    def ids_file(self, *lines: str) -> Path:
        file = self.project.root / "gone.txt"
        file.write_text("\n".join(lines))
        return file

    def holding(self) -> list[str]:
        """Every file below the project that has the sample's bytes, the source aside."""
        found = []
        for file in self.project.root.rglob("*"):
            if file.is_file() and file.name != "images.npy" and self.bytes in file.read_bytes():
                found.append(file.relative_to(self.project.root).as_posix())
        return sorted(found)


BANK = {"kind": "combined", "scores": [{"kind": "normalised-residual"}, {"kind": "knn", "rows": 30}]}
PLAIN = {"kind": "normalised-residual"}


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """A site that tests take copies of; an own copy of the registry moves its paths with it."""
    from aeops.registry.database import database_file
    from aeops.registry.store import open_store

    root = tmp_path_factory.mktemp("site") / "project"
    project = Project(root, root / ".ae")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "AE_HOME"):
            patch.delenv(name, raising=False)
        patch.setenv("DVC_SITE_CACHE_DIR", "")
        (root / "recipes").mkdir(parents=True)
        (root / "dvc.yaml").write_text("stages: {}\n")
        project.mlflow.mkdir(parents=True)
        shutil.copyfile(empty_database, database_file(project))
        site = Site(project, open_store(project))
        for word, score, content, md5 in (
            ("old", BANK, site.old_content, site.old_md5),
            ("plain", PLAIN, site.content, site.md5),
            ("bank", BANK, site.content, site.md5),
        ):
            site.register(word, score, content, md5)
        promotion.promote(site.store, "digits", "3", expected=None, who="ada", why="better", evidence={"sha256": "3" * 64})
        site.store.set_alias("digits", CHALLENGER, "3")  # as registering it does
        site.predict()
    (root / "facts.json").write_text(json.dumps({"gone": site.gone, "sha256": site.sha256}))
    return root


@pytest.fixture
def site(ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    from aeops.registry.store import open_store

    for name in ("MLFLOW_TRACKING_URI", "AE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", "")
    shutil.copytree(ready, tmp_path / "project", symlinks=True)
    project = Project(tmp_path / "project", tmp_path / "project" / ".ae")
    made = object.__new__(Site)
    made.project, made.store = project, open_store(project)
    made.cache, made.remote = project.root / ".dvc" / "cache", project.home / "dvc-remote"
    facts = json.loads((project.root / "facts.json").read_text())
    made.gone, made.sha256 = facts["gone"], facts["sha256"]
    made.images, made.labels = np.load(project.root / "images.npy"), np.load(project.root / "labels.npy")
    made.bytes = made.images[int(made.gone[-6:])].tobytes()
    made.content, made.md5 = content_sha256(made.data), dvc.dataset_hash(project, "digits")
    monkeypatch.chdir(project.root)
    return made


def require_forgotten(site: Site) -> None:
    """No copy is left; what has nothing to do with it is whole."""
    assert site.holding() == []
    require_receipt(site.data, "digits")
    index = read_index(site.data)
    assert len(index) == COUNT - 1
    assert site.gone not in set(index["id"])
    kept = {name: block for part, blocks in read_shards(site.data, index) for name, block in zip(part["id"], blocks, strict=True)}
    for name, sample in kept.items():
        np.testing.assert_array_equal(sample, site.images[int(name[-6:])])
    tags = {version.version: version.tags for version in site.store.versions("digits")}
    assert "forgotten" not in tags["1"]
    assert tags["2"]["forgotten"].startswith("1 samples, ")
    assert (tags["2"]["forgotten.bundle"], tags["3"]["forgotten.bundle"]) == ("kept", "deleted")
    assert site.store.champion("digits") is None
    assert site.store.model("digits").aliases == {}
    entries = ledger.read_entries(site.project, "digits")
    assert entries[-1].evidence["aliases_removed"] == "challenger of 3"
    events = [(entry.event, entry.version) for entry in entries]
    assert events == [("promotion", "3"), ("retirement", "3"), ("forgetting", "3")]
    assert not (site.project.home / "forgetting" / "digits.json").exists()


def judge(site: Site, *ids: str) -> None:
    """Let a person have released samples, and widened a bound because of them."""
    facts = {"who": "Ada", "account": "ada", "why": "dark, but real", "time": WHEN.isoformat()}
    content = dict(zip(read_index(site.data)["id"], read_index(site.data)["sha256"], strict=True))
    released = [Judgement(RELEASE, name, content.get(name, "0" * 64), ("blank",), None, **facts) for name in ids]
    record_judgements(site.project, "digits", released)
    widening = Widening("sample_mean", "validate.sample_mean.min", 0.02, 0.01, because=ids)
    record_widenings(site.project, "digits", [widening], facts)


@pytest.mark.slow
def test_a_sample_goes_from_everywhere_and_what_is_not_of_it_stays(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    before = site.holding()
    assert len(before) >= 8  # data, and in cache and remote shards, prepared samples and banks; the registry's banks
    judge(site, site.gone, "digits-000001")
    ids = site.ids_file(site.gone, "", site.gone)
    assert ae(["forget", "digits", "--ids", str(ids), "--why", "consent withdrawn", "--by", "Ada"]) == 0
    printed = capsys.readouterr().out
    require_forgotten(site)
    assert "1 lines of" in printed
    assert [one.id for one in read_judgements(site.project, "digits")] == ["digits-000001"]
    assert json.loads(site.project.suite_record("digits").read_text())["changes"][0]["because"] == ["digits-000001"]
    assert "Git's history of recipes/quarantine" in printed
    assert "digits@3 retired: its bank holds training samples" in printed
    assert "it is challenger no more" in printed
    assert "digits@2 marked" in printed
    assert "not reached the source itself (images.npy)" in printed
    first = site.store.version("digits", "1")
    assert site.store.files(first.run_id) == ["report.html"]
    assert site.store.files(first.run_id, "figures") == ["figures/gallery.svg"]
    assert site.store.download_bundle("digits", "1").is_dir()
    assert site.store.download_bundle("digits", "2").is_dir()
    second = site.store.version("digits", "2")
    assert site.store.files(second.run_id) == site.store.files(second.run_id, "figures") == []
    with pytest.raises(AeError):
        site.store.download_bundle("digits", "3")
    row = find_prediction(site.project, "7f3a9c2e-1")
    assert (row.sample, row.sample_sha256, row.code, row.score) == ("(forgotten)", "", None, 0.5)
    assert find_prediction(site.project, "7f3a9c2e-0").sample == "other.npy"
    assert promotion.find_problems(site.store, "digits") == []
    with pytest.raises(DataError, match=r"digits@3 cannot be rebuilt: samples of its data were forgotten \(1 samples, .*consent"):
        make_plan(site.project, site.store, "digits", site.store.version("digits", "3"), site.project.root / "scratch")


@pytest.mark.long
def test_a_forgotten_sample_does_not_come_back_with_the_next_ingest(site: Site) -> None:
    assert ae(["forget", "digits", "--ids", str(site.ids_file(site.gone)), "--why", "it is a face"]) == 0
    ids = dict(zip(read_index(site.data)["sha256"], read_index(site.data)["id"], strict=True))
    ingest(load_recipe(site.project, "digits"), site.project, site.project.incoming("digits"))
    index = read_index(site.project.incoming("digits"))
    assert dict(zip(index["sha256"], index["id"], strict=True)) == ids
    assert site.holding() == []
    assert (site.project.incoming("digits") / "forgotten.parquet").read_bytes() == (site.data / "forgotten.parquet").read_bytes()
    assert site.gone.encode() not in (site.data / "forgotten.parquet").read_bytes()


STEPS = (
    "drop_samples",
    "add_dataset",
    "forget_versions",
    "remove_objects",
    "remove_copies",
    "redact_predictions",
    "record_in_ledgers",
)


@pytest.mark.long
def test_a_forgetting_that_is_killed_at_any_step_is_completed_by_the_same_command(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["forget", "digits", "--ids", str(site.ids_file(site.gone)), "--why", "consent withdrawn", "--by", "Ada"]
    added: list[str] = []
    monkeypatch.setattr(carry_out, "add_dataset", lambda project, name: added.append(dvc.add_dataset(project, name)) or added[-1])
    for place, step in enumerate(STEPS):
        work, is_before = getattr(carry_out, step), place % 2 == 0

        def die(*arguments: Any, work: Any = work, is_before: bool = is_before) -> None:
            if not is_before:
                work(*arguments)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(carry_out, step, die)
            assert ae(command if place < 3 else command[:2]) == 130
        with pytest.raises(DataError, match=r"was interrupted: type `ae forget digits` to complete it"):
            ingest(load_recipe(site.project, "digits"), site.project, site.project.incoming("digits"))
    assert ae(command[:2]) == 0
    assert "goes on with what was begun at " in capsys.readouterr().out
    require_forgotten(site)


@pytest.mark.slow
def test_what_is_unclear_is_refused_before_anything_is_deleted(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    ids = site.ids_file(site.gone)
    before = tree(site.project.root)
    why = ["--why", "consent withdrawn"]
    binary = site.project.root / "binary.txt"
    binary.write_bytes(b"\xff\xfe\x00")
    empty = site.project.root / "empty.txt"
    empty.write_text("\n \n")
    unknown = site.project.root / "unknown.txt"
    unknown.write_text(f"{site.gone}\ndigits-999999\n")
    before |= tree(site.project.root)
    for arguments, code, words in (
        (["--ids", str(unknown), *why], DataError.exit_code, "no version of the data holds digits-999999: nothing was deleted"),
        (["--ids", str(empty), *why], UsageError.exit_code, "expected one id a line, got an empty file"),
        (["--ids", str(binary), *why], UsageError.exit_code, "not readable as text in UTF-8"),
        (["--ids", "nowhere.txt", *why], UsageError.exit_code, "no such file"),
        (["--ids", str(ids)], UsageError.exit_code, "expected the ids and the reason"),
        (["--ids", str(ids), "--why", " "], UsageError.exit_code, "expected the reason"),
        ([], UsageError.exit_code, "expected the ids and the reason"),
    ):
        assert ae(["forget", "digits", *arguments]) == code
        assert words in capsys.readouterr().err
    config = site.project.root / ".dvc" / "config.local"
    for address, words in (("s3://bucket/data", "is at an address"), ("/no/such/folder", "cannot be reached and written")):
        for file in (config, config.with_name("config")):
            file.write_text(f"[core]\n    remote = far\n['remote \"far\"']\n    url = {address}\n")
        assert ae(["forget", "digits", "--ids", str(ids), *why]) == InfrastructureError.exit_code
        assert words in capsys.readouterr().err
    journal = site.project.home / "predictions" / "digits" / "journal"
    after = {
        name: content for name, content in tree(site.project.root).items() if name in before and not name.startswith(".dvc/")
    }
    changed = [name for name, content in after.items() if content != before[name] and "mlflow" not in name and "lock" not in name]
    assert changed == []
    assert not journal.exists()


@pytest.mark.long
def test_a_sample_in_quarantine_alone_can_be_forgotten(site: Site) -> None:
    folder = site.project.quarantine("digits") / "0123"
    folder.mkdir(parents=True)
    pd.DataFrame({"id": ["bad/1.png"], "reasons": [["blank"]]}).to_parquet(folder / "rows.parquet")
    judge(site, "bad/2.png")  # and one that was dropped is in no quarantine
    assert ae(["forget", "digits", "--ids", str(site.ids_file("bad/1.png", "bad/2.png")), "--why", "it shows a person"]) == 0
    assert not folder.exists()
    assert read_judgements(site.project, "digits") == []
    assert len(read_index(site.data)) == COUNT
    assert site.store.champion_version("digits") == "3"
