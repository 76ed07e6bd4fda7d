"""A recipe that asks for a person: the run waits, by hand and on a schedule, until somebody else has decided."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from champion_helpers import stored_bundle
from checkout import Checkout, copy_checkout
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.flow_runs import resume_flow_run
from prefect.settings import PREFECT_API_URL, temporary_settings

WHY = "the loops are sharper"
KEY = "keys/ops.pem"
pytestmark = pytest.mark.timeout(600)  # seconds: several whole runs, one after the other


@pytest.fixture(scope="module")
def waiting(
    first_run: tuple[Checkout, subprocess.CompletedProcess[str]], prefect_address: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Checkout, subprocess.CompletedProcess[str]]:
    """A checkout with champion 1, in which ada has run a recipe with everything asked for: another approver, a signature and
    an answer of the registered model; and what that printed. The recipe has another score and threshold for the same weights,
    so that the run takes seconds."""
    ran, done = first_run
    assert done.returncode == 0, done.stderr
    checkout = copy_checkout(ran, tmp_path_factory.mktemp("waiting") / "checkout")
    assert checkout.ae_in_process("sign", "--new-keys", "keys/ops").returncode == 0
    checkout.edit_recipe(
        {
            "score.blur": 2.0,
            "threshold.false_alarm_rate": 0.05,
            "approval": {"needed": True, "other_than_starter": True},
            "signature": {"require_signature": True, "public_key": "keys/ops.pub"},
            "gate.answers_when_logged": {"check": "logged", "milliseconds": 60_000},
        }
    )
    return checkout, checkout.ae_in_forks("run", "small", AE_BY="ada", AE_SIGNING_KEY=KEY, PREFECT_API_URL=prefect_address)


@pytest.fixture
def copy(waiting: tuple[Checkout, subprocess.CompletedProcess[str]], tmp_path: Path) -> Checkout:
    checkout, done = waiting
    assert done.returncode == 0, done.stderr
    return copy_checkout(checkout, tmp_path / "copy")


def ledger(checkout: Checkout) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (checkout.home / "ledger" / "small.jsonl").read_text().splitlines()]


def events(checkout: Checkout) -> list[tuple[str, str, str]]:
    return [(line["event"], line["version"], line["who"]) for line in ledger(checkout)]


def champion(checkout: Checkout) -> str | None:
    return next((version for version, aliases, _ in checkout.versions() if "champion" in aliases), None)


@pytest.mark.slow
def test_a_run_by_hand_ends_with_what_it_waits_for_and_what_to_type(
    waiting: tuple[Checkout, subprocess.CompletedProcess[str]],
) -> None:
    checkout, done = waiting
    assert done.returncode == 0, done.stderr
    for told in ("accepted", "champion 1", "waits for approval", "ae approve small 2 --by NAME --why TEXT", "ae reject"):
        assert told in done.stdout
    assert champion(checkout) == "1"
    assert events(checkout)[-1] == ("request", "2", "ada")
    _, (_, aliases, tags) = checkout.versions()
    assert aliases == ("challenger",)
    assert tags["started_by"] == "ada"
    assert {name: tags[name] for name in tags if name.startswith("approval")} == {
        "approval": "waiting",
        "approval.expected": "1",
        "approval.flow_run": "none",
    }
    assert {"signature", "logged"} <= tags.keys()
    assert "answers one sample" in tags["logged"]
    assert tags["evidence.sha256"] == ledger(checkout)[-1]["evidence"]["sha256"]


def test_a_changed_score_and_threshold_train_nothing(
    first_run: tuple[Checkout, subprocess.CompletedProcess[str]], waiting: tuple[Checkout, subprocess.CompletedProcess[str]]
) -> None:
    (before, _), (after, done) = first_run, waiting
    assert done.returncode == 0, done.stderr
    for folder in (Path("artifacts", "small", "training"), Path(".ae", "training", "small")):  # with the times of each epoch
        assert contents(after.root / folder) == contents(before.root / folder)
    (_, _, first), (_, _, second) = after.versions()
    assert first["weights_sha256"] == second["weights_sha256"]
    assert first["bundle_sha256"] != second["bundle_sha256"]


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


@pytest.mark.slow
def test_another_run_while_it_waits_is_quick_and_says_the_same(copy: Checkout) -> None:
    before = ledger(copy)
    done = copy.ae_in_process("run", "small", AE_BY="ada")
    assert done.returncode == 0, done.stderr
    assert "nothing changed" in done.stdout
    assert "ae approve small 2" in done.stdout
    assert ledger(copy) == before


@pytest.mark.slow
def test_somebody_else_approves_and_an_unchanged_run_leaves_a_rollback_alone(copy: Checkout) -> None:
    refused = copy.ae_in_process("approve", "small", "2", "--by", "ada", "--why", WHY)
    assert refused.returncode == 2
    assert "somebody else" in refused.stderr
    assert champion(copy) == "1"

    unsigned = copy.ae_in_process("approve", "small", "2", "--by", "bob", "--why", WHY)
    assert (unsigned.returncode, "has to be signed, too: set AE_SIGNING_KEY" in unsigned.stderr) == (2, True), unsigned.stderr
    assert champion(copy) == "1"
    done = copy.ae_in_process("approve", "small", "2", "--by", "bob", "--why", WHY, AE_SIGNING_KEY=KEY)
    assert done.returncode == 0, done.stderr
    assert "champion   small 2" in done.stdout
    assert champion(copy) == "2"
    assert events(copy)[-2:] == [("approval", "2", "bob"), ("recalibration", "2", "bob")]
    again = copy.ae_in_process("run", "small")
    assert (again.returncode, "nothing changed" in again.stdout) == (0, True), again.stderr

    back = ("rollback", "small", "--by", "bob", "--why", "it flags too much")
    unsigned = copy.ae_in_process(*back)
    assert (unsigned.returncode, "it is not signed" in unsigned.stderr) == (3, True), unsigned.stderr
    assert copy.ae_in_process("sign", "small", "1", "--key", KEY).returncode == 0
    assert copy.ae_in_process(*back).returncode == 2
    assert copy.ae_in_process(*back, AE_SIGNING_KEY=KEY).returncode == 0
    done = copy.ae_in_process("run", "small")
    assert done.returncode == 4
    assert "nothing changed" in done.stdout
    assert champion(copy) == "1"


@pytest.mark.long
def test_a_run_with_the_same_evidence_does_not_undo_a_rollback(copy: Checkout, prefect_address: str) -> None:
    bob = ("--by", "bob", "--why", WHY)
    assert copy.ae_in_process("approve", "small", "2", *bob, AE_SIGNING_KEY=KEY).returncode == 0
    assert copy.ae_in_process("sign", "small", "1", "--key", KEY).returncode == 0
    assert copy.ae_in_process("rollback", "small", *bob, AE_SIGNING_KEY=KEY).returncode == 0
    copy.edit_recipe({"about": "The same samples under another description."})
    done = copy.ae("run", "small", PREFECT_API_URL=prefect_address)
    assert done.returncode == 4, done.stderr
    assert "`ae rollback small --to 2 --why TEXT`" in done.stdout
    assert champion(copy) == "1"


@pytest.mark.slow
def test_a_step_that_fails_leaves_alias_ledger_and_registry_as_they_were(copy: Checkout, prefect_address: str) -> None:
    before = ((copy.home / "ledger" / "small.jsonl").read_bytes(), copy.pointers())
    (stored_bundle(copy.store(), "small", "1") / "model.onnx").write_bytes(b"")  # the champion is no longer what was registered
    shutil.rmtree(copy.home / "serving", ignore_errors=True)
    versions = copy.versions()
    recipe = (copy.root / "recipes" / "small.yaml").read_bytes()
    done = copy.ae_in_forks("run", "small", "--seed", "7", AE_BY="ada", PREFECT_API_URL=prefect_address)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "+  seed: 7" in done.stderr
    assert (copy.root / "recipes" / "small.yaml").read_bytes() == recipe  # a setting of a run that failed is taken back
    assert "Traceback" not in done.stderr
    assert "register ..." not in done.stderr
    assert ((copy.home / "ledger" / "small.jsonl").read_bytes(), copy.pointers()) == before
    assert copy.versions() == versions


# ---------------------------------------------------------------- on a schedule


DEPLOY = """
import json, os
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from flows.training import training
with get_client(sync_client=True) as client:
    client.create_work_pool(WorkPoolCreate(name=os.environ["POOL"], type="process"))
    made = client.create_deployment(
        client.create_flow(training), "small", work_pool_name=os.environ["POOL"], entrypoint="flows/training.py:training",
        parameters={"recipe": "small"},
        pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": os.getcwd()}}])
    print(json.dumps(str(client.create_flow_run_from_deployment(made).id)))
"""


class Scheduled:
    """A deployment of the recipe `small` in a work pool of its own, run by a worker that ends when it has nothing to do."""

    def __init__(self, checkout: Checkout, api: str) -> None:
        self.checkout = checkout
        self.settings = {
            "PREFECT_API_URL": api,
            "PREFECT_HOME": str(checkout.home / "prefect"),
            "PYTHONPATH": str(checkout.root),
            "DO_NOT_TRACK": "true",
            "AE_BY": "ada",
            "AE_SIGNING_KEY": KEY,
            "POOL": checkout.root.parent.name,
        }

    def python(self, script: str) -> Any:
        return json.loads(self.run("-c", script).splitlines()[-1])

    def work(self) -> None:
        """One round of the worker: the flow runs that are due, each until it ends or is suspended."""
        self.run("-m", "prefect", "worker", "start", "--pool", self.settings["POOL"], "--run-once")

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.checkout.root,
            env=self.checkout.environment(**self.settings),
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def state(self, flow_run: str) -> tuple[str, str]:
        """Name of the flow run's state, and what stands above the form that it waits with."""
        with self.client() as client:
            run = client.read_flow_run(UUID(flow_run))
            keys = run.state.state_details.run_input_keyset
            return run.state.name, client.read_flow_run_input(run.id, keys["description"]) if keys else ""

    def answer(self, flow_run: str, by: str) -> None:
        """Send the form of a run that waits, filled in to approve."""
        with self.client():
            resume_flow_run(UUID(flow_run), run_input={"decision": "approve", "by": by, "why": WHY})

    @contextmanager
    def client(self) -> Iterator[SyncPrefectClient]:
        """Let Prefect's own functions in this process use this server until the block ends."""
        with temporary_settings({PREFECT_API_URL: self.settings["PREFECT_API_URL"]}), get_client(sync_client=True) as client:
            yield client

    def processes(self) -> list[str]:
        """The commands of every process that works in the checkout."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(place / "cwd") == str(self.checkout.root):
                    found.append((place / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue  # it has ended meanwhile
        return found


@pytest.fixture
def scheduled(copy: Checkout, prefect_address: str) -> Scheduled:
    return Scheduled(copy, prefect_address)


@pytest.mark.long
def test_a_scheduled_run_is_suspended_without_a_process_until_the_form_is_answered(scheduled: Scheduled) -> None:
    checkout = scheduled.checkout
    checkout.edit_recipe({"about": "The same samples, run by a schedule."})  # else the run ends as nothing has changed
    flow_run = scheduled.python(DEPLOY)
    scheduled.work()
    name, form = scheduled.state(flow_run)
    assert name == "Suspended"
    for told in ("small 2 waits for approval", "champion 1", "accepted", "ae approve small 2"):
        assert told in form
    assert scheduled.processes() == []
    before = events(checkout)

    scheduled.answer(flow_run, by="Ada")
    scheduled.work()
    name, form = scheduled.state(flow_run)
    assert (name, champion(checkout), events(checkout)) == ("Suspended", "1", before)
    assert "somebody else" in form

    done = checkout.ae("approve", "small", "2", "--by", "bob", "--why", WHY, **scheduled.settings)
    assert done.returncode == 0, done.stderr
    assert f"{flow_run} continues" in done.stdout
    assert champion(checkout) == "2"
    scheduled.work()
    assert scheduled.state(flow_run)[0] == "Completed"
    assert events(checkout)[-2:] == [("approval", "2", "bob"), ("recalibration", "2", "bob")]


@pytest.mark.long  # the form, a worker and a promotion, each of which the test above has, too
def test_the_form_alone_promotes(scheduled: Scheduled) -> None:
    checkout = scheduled.checkout
    checkout.edit_recipe({"about": "The same samples, run by a schedule."})
    flow_run = scheduled.python(DEPLOY)
    scheduled.work()
    assert scheduled.state(flow_run)[0] == "Suspended"
    scheduled.answer(flow_run, by="bob")
    scheduled.work()
    assert scheduled.state(flow_run)[0] == "Completed"
    assert champion(checkout) == "2"
    assert events(checkout)[-2:] == [("approval", "2", "bob"), ("recalibration", "2", "bob")]
