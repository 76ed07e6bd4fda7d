"""A quarter of a year in minutes, on real digits: `python benchmarks/quarter.py`

In a fresh clone of HEAD with the whole stack of `ae up`: digits come in by the day, are scored in batches and looked at by
monitoring, and a client asks the scoring service all the while. Retrains run on their schedule, each on the last weeks. On one
day a digit that nobody has seen and a blur appear: monitoring notices, starts a retrain, the gate decides, the service swaps.
Only the clock is simulated: each day's scoring and monitoring gets its own `now`, and scheduled runs are started on their day.

Writes benchmarks/records/quarter.json and copies the page that monitoring draws of it to .ae/quarter.html. `--days 1` plays only
the first day. The same story is a test (tests/long/test_quarter.py).
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from benchmark_tools import RECORDS, clean_environment, clone_head, measurement_facts, mnist_digits, save_record
from scipy.ndimage import gaussian_filter

from aeops.errors import DataError, InfrastructureError
from aeops.machine.entry_point import run_main
from aeops.machine.prefect_access import recorded_access
from aeops.machine.service_records import read_service_record
from aeops.monitoring import history, paths
from aeops.monitoring.champion_period import ChampionPeriod
from aeops.monitoring.check_steps import evaluate_signals
from aeops.monitoring.signals import ALARM
from aeops.project import Project, find_project
from aeops.recipe.monitoring import TEST_SIGNALS
from aeops.recipe.reader import Recipe, load_recipe
from aeops.registry import ledger, promotion
from aeops.registry.store import open_store
from aeops.scoring.inbox_run import score_inbox
from aeops.stack.prefect_api import PrefectApi

RECIPE = "stream"
NEW_DIGIT, BLUR = 7, 0.7  # the digit that appears, and the deviation of the blur in pixels
WINDOW, DAYS, A_DAY = 28, 90, 36  # days that a training sees, days of the quarter, samples a day
CHANGE = 47  # the day on which both appear
SCHEDULED = (0, 84)  # days on whose morning the schedule retrains: every twelve weeks
COOLDOWN = 35  # days after a retrain by alarm in which alarms start none
NEW_SHARE = 0.15  # of the samples from then on
PATIENCE = 600.0  # seconds for a flow run, on a busy machine


# ---------------------------------------------------------------- incoming digits


class Days:
    """Real digits by the day, no sample twice."""

    def __init__(self, seed: int = 0) -> None:
        images, labels = mnist_digits()
        order = np.random.default_rng(seed).permutation(len(labels))
        images, labels = images[order], labels[order]
        self.known, self.new = images[labels != NEW_DIGIT], images[labels == NEW_DIGIT]
        self.used = Counter[str]()

    def take(self, group: str, count: int) -> np.ndarray:
        """Return the next samples of the group `known` or `new`."""
        samples = self.known if group == "known" else self.new
        first = self.used[group]
        self.used[group] += count
        return samples[first : first + count]

    def calm(self) -> np.ndarray:
        """Return the samples of a day before the change, uint8 (n, 1, 28, 28)."""
        return self.take("known", A_DAY)

    def changed(self) -> np.ndarray:
        """Return the samples of a day with the new digit among the others, all out of focus."""
        new = round(A_DAY * NEW_SHARE)
        both = np.concatenate([self.take("known", A_DAY - new), self.take("new", new)]).astype(np.float64)
        return gaussian_filter(both, (0, 0, BLUR, BLUR)).round().clip(0, 255).astype(np.uint8)


def write_recipe(root: Path) -> None:
    """Write the recipe `stream`, whose digits come without labels from a folder that grows by the day, and its deployments."""
    recipe = yaml.safe_load((root / "recipes" / "digits.yaml").read_text(encoding="utf-8"))
    recipe |= {
        "recipe": RECIPE,
        "about": "Handwritten digits as they come in by the day.",
        "data": {
            "dataset": RECIPE,
            "source": {"kind": "days", "path": f"days/{RECIPE}", "window_days": WINDOW},
            "split": {"validation": 0.04, "calibration": 0.3, "test": 0.25},
        },
        "evaluate": {"pca_components": 16},
        "gate": {
            "onnx_equals_torch": {"metric": "export.max_difference", "at_most": 0.0001},
            "answers_when_served": {"check": "served"},
            "keeps_the_champions_error": {"champion": "error", "margin": 0.2},
            "not_worse_than_champion": {"switched_off": "few samples a day: keeps_the_champions_error has a wider margin"},
            "not_below_baselines": {"switched_off": "one network of twelve epochs: the story is about change"},
        },
        # The ledger's clock is the real one, so no champion is ever stale. So is the service's, whose predictions do not count.
        "monitor": {
            "level": 0.001,
            "cooldown_days": COOLDOWN,
            "channels": ["batch"],
            "signals": list(TEST_SIGNALS),
            "stale_after_days": 10 * DAYS,
        },
        "scoring": {"inbox": f"inbox/{RECIPE}"},
        "serving": {"shadow_requests": 10, "shadow_seconds": 10},
    }
    recipe["validate"] |= {"rows": {"min": 300, "max": 5000}, "mean_drift": 0.2}
    del recipe["validate"]["class_share"]
    recipe["train"] |= {"epochs": 12, "members": 1}
    recipe["score"] = {"kind": "normalised-residual", "energy": 0.5, "blur": 1}
    recipe["threshold"]["false_alarm_rate"] = 0.02
    (root / "recipes" / f"{RECIPE}.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    (root / "params.yaml").write_text(yaml.safe_dump({"recipes": {RECIPE: {"dataset": RECIPE}}}), encoding="utf-8")
    prefect = yaml.safe_load((root / "prefect.yaml").read_text(encoding="utf-8"))
    own = [deployment for deployment in prefect["deployments"] if deployment["parameters"] == {"recipe": "digits"}]
    renamed = json.loads(json.dumps(own).replace("digits", RECIPE))
    prefect["deployments"] = [deployment | {"schedules": []} for deployment in renamed]  # the story starts them on their days
    prefect.pop("definitions", None)
    (root / "prefect.yaml").write_text(yaml.safe_dump(prefect, sort_keys=False), encoding="utf-8")


# ---------------------------------------------------------------- a client of the service


@dataclass
class Client:
    """A client that has one sample after the other scored, until it is stopped.

    Attributes:
        where: waits for the service and returns its address.
        patience: seconds for which a request is repeated while the service is not there.
        answered: the x-request-id of each request that was answered.
        versions: the version that answered, in order, without repetition.
        failed: a line for each request that failed.
    """

    where: Callable[[], str]
    samples: np.ndarray
    patience: float = 0.0
    sent: int = 0
    answered: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    @cached_property
    def address(self) -> str:
        return self.where()

    def ask(self) -> None:
        while not self.stopping.wait(0.1):
            self.sent += 1
            try:
                self.until_answered(self.samples[self.sent % len(self.samples)])
            except (InfrastructureError, OSError, HTTPException, ValueError, KeyError) as error:  # whatever urllib and JSON raise
                self.failed.append(f"request {self.sent}: {error}")

    def until_answered(self, sample: np.ndarray) -> None:
        deadline, retries = time.monotonic() + self.patience, 0
        while True:
            try:
                self.request_score(sample, f"story-{self.sent}-{retries}")
            except (OSError, HTTPException) as error:
                is_refusal = isinstance(error, urllib.error.HTTPError) and error.code != 503  # 503: no version is loaded yet
                if is_refusal or time.monotonic() >= deadline:
                    raise
                retries += 1
                time.sleep(0.05)
            else:
                return

    def request_score(self, sample: np.ndarray, name: str) -> None:
        """Request one score, and every tenth time the version that answers.

        Raises:
            OSError: no answer, or one that is an error.
            ValueError: the score is not finite.
        """
        body = json.dumps({"inputs": sample.tolist()}).encode()
        headers = {"Content-Type": "application/json", "x-request-id": name}
        request = urllib.request.Request(f"{self.address}/score", body, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            score = json.load(answer)["predictions"][0]["score"]
        if not np.isfinite(score):
            raise ValueError(f"expected a finite score, got {score}")
        self.answered.append(name)
        if self.sent % 10 == 0:
            with urllib.request.urlopen(f"{self.address}/readyz", timeout=60) as answer:
                version = json.load(answer)["version"]
            if self.versions[-1:] != [version]:
                self.versions.append(version)

    @contextmanager
    def asking(self) -> Iterator[None]:
        thread = threading.Thread(target=self.ask)
        thread.start()
        try:
            yield
        finally:
            self.stopping.set()
            thread.join()


# ---------------------------------------------------------------- the story


@dataclass
class Quarter:
    """A checkout whose stack is up, and the simulated days.

    Attributes:
        begin: the first day, at midnight: tomorrow's, as no prediction may be older than the promotion of its model.
        story_log: (day, message) of each event.
        scored: samples that were scored so far.
        cooldown_until: the day from which alarms start a retrain again.
    """

    root: Path
    begin: datetime = field(default_factory=lambda: midnight_of_tomorrow(datetime.now(UTC)))
    story_log: list[tuple[int, str]] = field(default_factory=list)
    scored: int = 0
    cooldown_until: int = 0

    @cached_property
    def project(self) -> Project:
        return Project(self.root, self.root / ".ae")

    @cached_property
    def digits(self) -> Days:
        return Days()

    @cached_property
    def recipe(self) -> Recipe:
        return load_recipe(self.project, RECIPE, with_keys=True)

    @cached_property
    def prefect(self) -> PrefectApi:
        note = read_service_record(self.project, "prefect")
        if note is None or note.api_url is None:
            raise InfrastructureError("Prefect's server has no note: the stack is not up")
        access = recorded_access(self.project, note.api_url)
        return PrefectApi(access.api_url, access.credentials)

    def ae(self, *arguments: str) -> str:
        """Run `ae` and return its output.

        Raises:
            DataError: it fails.
        """
        command = [sys.executable, "-m", "aeops.cli.main", *arguments]
        done = subprocess.run(command, cwd=self.root, env=clean_environment(), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise DataError(f"`ae {' '.join(arguments)}`: exit code {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def log(self, day: int, message: str) -> None:
        self.story_log.append((day, message))
        print(f"{time.strftime('%X')} day {day}: {message}", file=sys.stderr, flush=True)

    # ------------------------------------------------------------ parts of the story

    def start(self) -> None:
        """Bring in four weeks of digits, start the stack, and run the first retrain, which makes the first champion."""
        write_recipe(self.root)
        (self.root / "days" / RECIPE).mkdir(parents=True)
        (self.root / "inbox" / RECIPE).mkdir(parents=True)
        ports = free_ports(4)
        names = ("--mlflow-port", "--prefect-port", "--page-port", "--score-port")
        with ThreadPoolExecutor() as threads:
            up = threads.submit(self.ae, "up", *(f"{name}={port}" for name, port in zip(names, ports, strict=True)))
            for day in range(-WINDOW, 0):
                self.save_day(day, self.digits.calm())
            open_store(self.project)  # takes seconds the first time, while the stack comes up
            up.result()
        self.retrain(SCHEDULED[0])

    def save_day(self, day: int, samples: np.ndarray) -> Path:
        """Write the day's file, complete or not at all, into the folder that trainings read."""
        file = self.root / "days" / RECIPE / f"{(self.begin + timedelta(days=day)).date().isoformat()}.npy"
        np.save(file.with_name(".part.npy"), samples)
        file.with_name(".part.npy").rename(file)
        return file

    def champion(self) -> str | None:
        return ledger.champion_at(ledger.read_entries(self.project, RECIPE))

    def service(self) -> str:
        """Wait until the scoring service answers; return its address."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            note = read_service_record(self.project, f"score-{RECIPE}")
            if note is not None and note.address and is_ready(note.address):
                return note.address
            time.sleep(0.5)
        raise InfrastructureError(f"no scoring service within {PATIENCE:.0f} s: type `ae status`")

    def live(self, day: int) -> None:
        """Play a day: run a retrain that is due, score the samples that come in, and let monitoring act on alarms."""
        if day in SCHEDULED[1:]:
            self.retrain(day)
        now = self.come_in(day)
        if self.alarms(now) and day >= self.cooldown_until:
            self.monitor(day, now)

    def come_in(self, day: int) -> datetime:
        """Score the samples of a day; return its evening."""
        samples = self.digits.calm() if day < CHANGE else self.digits.changed()
        file = self.save_day(day, samples)
        arriving = self.root / "inbox" / RECIPE / file.name
        shutil.copyfile(file, arriving)
        os.utime(arriving, (time.time() - 60,) * 2)  # a fresh file may still be being written and is left for later
        now = self.begin + timedelta(days=day, hours=20)
        self.scored += score_inbox(self.project, self.recipe, now)["samples"]
        return now

    def alarms(self, now: datetime) -> list[str]:
        """Check the signals, record the check and return those that alarm.

        By functions: a flow run for each day would take an hour.
        """
        move = ledger.last_move(ledger.read_entries(self.project, RECIPE))
        if move is None or move.to_version is None:
            raise DataError(f"{RECIPE} has no champion on {now:%Y-%m-%d}")
        period = ChampionPeriod(move.to_version, move.time, move.timestamp)
        result = evaluate_signals(self.project, self.recipe, period, now)
        history.append_check(paths.history_file(self.project, RECIPE), now, RECIPE, period, result.signals)
        counted = self.recipe.monitor.signals
        return [signal.name for signal in result.signals if signal.verdict == ALARM and signal.name in counted]

    def monitor(self, day: int, now: datetime) -> None:
        """Run the monitoring flow as its deployment does, and wait for a retrain that it starts."""
        self.run_flow(f"monitoring/monitor-{RECIPE}", {"recipe": RECIPE, "now": now.isoformat()})
        verdict = json.loads((self.project.home / "monitoring" / RECIPE / "verdict.json").read_text(encoding="utf-8"))
        alarms = [signal["name"] for signal in verdict["signals"] if signal["verdict"] == ALARM]
        decision = verdict["decision"]
        if not decision["flow_run"]:
            return
        self.cooldown_until = day + COOLDOWN
        self.log(day, f"alarm: {', '.join(alarms)}; retrain started")
        self.wait_for(decision["flow_run"])
        self.log(day, f"champion {self.champion()}: {self.last_line()}")

    def retrain(self, day: int) -> None:
        self.run_flow(f"training/retrain-{RECIPE}", {"recipe": RECIPE})
        self.log(day, f"retrain by schedule; champion {self.champion()}: {self.last_line()}")

    def last_line(self) -> str:
        line = ledger.read_entries(self.project, RECIPE)[-1]
        return f"{line.event} of {line.version}"

    def run_flow(self, deployment: str, parameters: dict[str, Any]) -> None:
        """Start a run of a deployment and wait for its end."""
        self.wait_for(self.start_flow(deployment, parameters))

    def start_flow(self, deployment: str, parameters: dict[str, Any]) -> str:
        """Start a run of a deployment; return its id."""
        deployed = self.prefect.request("GET", f"deployments/name/{deployment}")
        if deployed is None:
            raise InfrastructureError(f"no deployment {deployment} at {self.prefect.url}")
        run = self.prefect.request("POST", f"deployments/{deployed['id']}/create_flow_run", {"parameters": parameters})
        return str(run["id"])

    def wait_for(self, flow_run: str) -> None:
        """Wait until a flow run completes.

        Raises:
            DataError: it ends otherwise, or not in time.
        """
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            state = self.prefect.request("GET", f"flow_runs/{flow_run}")["state"]
            if state["type"] == "COMPLETED":
                return
            if state["type"] in ("FAILED", "CRASHED", "CANCELLED"):
                raise DataError(f"flow run {flow_run}: {state['name']}: {state['message']}")
            time.sleep(0.5)
        raise DataError(f"flow run {flow_run} has not ended within {PATIENCE:.0f} s")

    # ------------------------------------------------------------ the whole story

    @contextmanager
    def played(self, days: int = DAYS) -> Iterator[dict[str, Any]]:
        """Play the quarter, or its first days, and give its summary; the stack is up until the block ends."""
        started_at = time.monotonic()
        with ExitStack() as ending:
            ending.callback(self.ae, "down")
            self.start()
            client = Client(self.service, self.digits.take("known", 64))
            with client.asking():
                for day in range(days):
                    self.live(day)
                self.settle(client)
            yield self.summary(client, days) | {"seconds": round(time.monotonic() - started_at, 1)}

    def summary(self, client: Client, days: int) -> dict[str, Any]:
        lines = ledger.read_entries(self.project, RECIPE)
        problems = promotion.find_problems(open_store(self.project), RECIPE)
        return {
            "days": days,
            "samples": self.scored,
            "change_on_day": CHANGE,
            "told": self.story_log,
            "events": [f"{line.event} of {line.version}" for line in lines],
            "requests": client.sent,
            "failed_requests": client.failed,
            "versions_that_answered": client.versions,
            "ledger": "; ".join(problems) or f"{RECIPE}: whole, {len(lines)} lines, champion {self.champion()}",
        }

    def settle(self, client: Client) -> None:
        """Wait until the service answers with the champion."""
        deadline = time.monotonic() + PATIENCE
        while client.versions[-1:] != [self.champion()] and time.monotonic() < deadline:
            time.sleep(0.5)


def midnight_of_tomorrow(now: datetime) -> datetime:
    return (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)


def is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def free_ports(count: int) -> list[int]:
    """Return ports on which nothing listens."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


# ---------------------------------------------------------------- the record


def bench(project: Project, days: int, out: Path, page: Path | None) -> None:
    page = page or project.home / "quarter.html"
    record = measurement_facts(project, "python benchmarks/quarter.py")
    with tempfile.TemporaryDirectory(prefix="ae-quarter-") as folder:
        clone = Path(folder) / "clone"
        clone_head(project, clone)
        quarter = Quarter(clone)
        with quarter.played(days) as summary:
            quarter.monitor(days, quarter.begin + timedelta(days=days))  # which draws the page of the quarter
        page.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(quarter.project.home / "monitoring" / RECIPE / "page.html", page)
    save_record(out, record | summary)
    print(json.dumps(summary, indent=2))
    print(f"its page: {page}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=DAYS, help=f"of the story [{DAYS}]")
    parser.add_argument("--out", type=Path, default=RECORDS / "quarter.json", help="JSON to write [%(default)s]")
    parser.add_argument("--page", type=Path, help="HTML to write [.ae/quarter.html]")
    args = parser.parse_args(arguments)
    run_main(lambda: bench(find_project(), args.days, args.out, args.page))


if __name__ == "__main__":
    main()
