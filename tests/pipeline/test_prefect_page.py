"""What Prefect's page says of a run and its steps: names, figures, and our messages where something failed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from monitored_project import make_project
from prefect import get_client, tags
from prefect.client.schemas.filters import FlowFilter, FlowFilterId, FlowRunFilter, FlowRunFilterId
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, temporary_settings

from aeops.errors import DataError, TransientError
from aeops.machine.step_report import say_result
from flows import flow_run, pipeline_step

Page = Callable[..., tuple[dict[str, Any], dict[str, Any]]]


@pytest.fixture
def page(prefect_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """page(function, error): runs a flow of one step; returns names and messages of the flow run and of its step."""
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AE_HOME", raising=False)
    monkeypatch.setattr(pipeline_step, "RETRY_SECONDS", [0.1, 0.1])

    def run(function: Callable[[str], Any], error: type[Exception] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        name = function.__name__
        step = pipeline_step.pipeline_step("validate", "checks", retries=1)(function)

        def whole(recipe: str) -> Any:
            return flow_run.flow_result(step(recipe), f"{recipe} is done")

        whole_flow = flow_run.pipeline_flow(f"trying {name}", "try")(whole)
        if error is None:
            assert whole_flow("small") == 3
        else:
            with pytest.raises(error):
                whole_flow("small")
        with get_client(sync_client=True) as client:
            made = client.read_flow_by_name(f"trying {name}").id
            [run] = client.read_flow_runs(flow_filter=FlowFilter(id=FlowFilterId(any_=[made])))
            [task] = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])))
        return vars(run) | {"message": run.state.message}, vars(task) | {"message": task.state.message}

    with temporary_settings({PREFECT_API_URL: prefect_address}):
        yield run
        APILogWorker.drain_all()  # while the server is there


def test_a_run_is_named_by_recipe_and_time_and_a_step_says_its_figures(page: Page) -> None:
    def good(recipe: str) -> int:
        say_result("5,000 accepted, 3 set aside")
        return 3

    run, task = page(good)
    assert run["name"] == f"try small, {run['expected_start_time']:%Y-%m-%d %H:%M}"
    assert (run["state_name"], run["message"]) == ("Completed", "small is done")
    assert (task["name"], task["message"]) == ("validate small", "5,000 accepted, 3 set aside")


def test_the_message_of_a_failed_run_is_ours(page: Page) -> None:
    def bad(recipe: str) -> int:
        raise DataError("4,998 of 5,000 rows fail: type `ae quarantine small`")

    run, task = page(bad, DataError)
    for one in (run, task):
        assert (one["state_name"], one["message"]) == ("Failed", "4,998 of 5,000 rows fail: type `ae quarantine small`")
    assert task["run_count"] == 1, "no retry helps against bad data"


def test_what_may_pass_is_tried_again(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    attempts = []

    def late(recipe: str) -> int:
        attempts.append(recipe)
        if len(attempts) == 1:
            raise TransientError("the server does not answer")
        return 3

    run, task = page(late)
    assert (run["state_name"], task["state_name"], task["run_count"]) == ("Completed", "Completed", 2)
    assert "validate: tried again in 0.1 s (1 of 1): the server does not answer" in capsys.readouterr().err


def test_a_fault_of_ours_keeps_prefects_message_and_its_traceback(page: Page) -> None:
    def broken(recipe: str) -> int:
        return 1 // 0

    run, _ = page(broken, ZeroDivisionError)
    assert run["state_name"] == "Failed"
    assert "ZeroDivisionError" in run["message"]


def test_the_tags_of_a_run_are_not_those_of_its_steps(page: Page) -> None:
    """Prefect waits for its server before each task that has tags."""

    def tagged(recipe: str) -> int:
        return 3

    with tags("this-process"):
        run, task = page(tagged)
    assert run["tags"] == ["this-process"]
    assert task["tags"] == []
