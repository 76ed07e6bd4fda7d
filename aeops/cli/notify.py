"""`ae notify`: list who is notified of what, and what waits.

`ae notify --test [RECEIVER]` sends each of them, or one, a message now; `ae notify --retry` sends what waits.
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aeops.cli.outputs import add_json_option, print_json

if TYPE_CHECKING:
    from aeops.alerts.receivers import ReadyReceiver
    from aeops.alerts.sending import SendResult
    from aeops.project import Project

ALL = "all"


def add_command(commands: Any) -> None:
    """Add `ae notify` to the commands of the parser."""
    command = commands.add_parser("notify", help="list who is notified of alarms, failures and decisions; test them")
    command.add_argument(
        "--test", nargs="?", const="", metavar="RECEIVER", help="send a message now, to one receiver of ae.yaml or to all"
    )
    command.add_argument("--retry", action="store_true", help="send now what did not arrive")
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the receivers of ae.yaml, or send each of them a message, or what waits.

    Returns:
        0; the exit code of infrastructure errors where a message did not arrive.

    Raises:
        UsageError: with every mistake in ae.yaml; or no such receiver; or --test and --retry at once.
    """
    from ae_models.spec.messages import join_choices, suggest_match
    from aeops.alerts.receivers import read_receivers
    from aeops.errors import UsageError
    from aeops.project import find_project

    project = find_project()
    receivers = read_receivers(project)
    if arguments.retry:
        if arguments.test is not None:
            raise UsageError("expected --test or --retry, got both: type one after the other")
        return send_waiting(project, receivers, as_json=arguments.json)
    if arguments.test is None:
        show_receivers(receivers, _unknown_recipes(receivers), as_json=arguments.json)
        return 0
    names = [one.target.name for one in receivers]
    if not receivers:
        raise UsageError("ae.yaml names no receiver: add `notify:` to it, as `ae docs notifications` shows")
    if arguments.test and arguments.test not in names:
        raise UsageError(
            f"no receiver {arguments.test!r} in ae.yaml, expected {join_choices(names)}{suggest_match(arguments.test, names)}"
        )
    return test_receivers([one for one in receivers if arguments.test in ("", one.target.name)], as_json=arguments.json)


def show_receivers(receivers: "list[ReadyReceiver]", unknown_recipes: list[str], as_json: bool) -> None:
    """Print each receiver with its events and recipes, and below what each event is."""
    from aeops.alerts.receivers import waiting_counts
    from aeops.project import find_project
    from aeops.recipe.notify_settings import EVENTS

    if as_json:
        document = {"receivers": list(map(_facts, receivers)), "events": EVENTS}
        print_json(document | {"waiting": waiting_counts(find_project())})
        return
    for one in receivers:
        facts = _facts(one)
        print(f"{facts['name']}  {facts['kind']} at {facts['at']}")
        for key in ("events", "recipes"):
            print(f"    {key + ':':9}{', '.join(facts[key]) or ALL}")
        if facts["problem"]:
            print(f"    problem: {facts['problem']}")
    if not receivers:
        print("nobody is notified: ae.yaml has no `notify:`, see `ae docs notifications`")
    for name in unknown_recipes:
        print(f"note: there is no recipe {name}, whose events a receiver waits for")
    print("events:")
    for name, text in EVENTS.items():
        print(f"    {name:12}{text}")
    print_waiting(waiting_counts(find_project()))
    if receivers:
        print("does it arrive? ae notify --test")


def print_waiting(rows: "list[dict[str, Any]]") -> None:
    """Print a line for each receiver that something waits for."""
    for row in rows:
        print(f"waiting: {row['count']} for {row['receiver']}, since {row['since']}: ae notify --retry")


def send_waiting(project: "Project", receivers: "list[ReadyReceiver]", as_json: bool) -> int:
    """Send what waits, print what came of it, and return the exit code."""
    from dataclasses import asdict

    from aeops.alerts.receivers import retry, waiting_counts
    from aeops.errors import InfrastructureError

    results = retry(project, receivers)
    left = waiting_counts(project)
    if as_json:
        print_json({"tried": list(map(asdict, results)), "waiting": left})
    else:
        _print_results(results)
        if not results and not left:
            print("nothing waits")
        print_waiting(left)
        _print_problems(receivers, {row["receiver"] for row in left})
    return InfrastructureError.exit_code if left else 0


def _print_problems(receivers: "list[ReadyReceiver]", waited_for: set[str]) -> None:
    """Print why nothing can be sent to some of the receivers that something waits for."""
    problems = {one.target.name: one.problem for one in receivers}
    for name in sorted(waited_for):
        if problem := problems.get(name, "ae.yaml names no such receiver"):
            print(f"{name}: {problem}")


def _print_results(results: "Sequence[SendResult]") -> None:
    for result in results:
        reason = f": {result.reason}" if result.reason else ""
        print(f"{result.state:10} {result.target}{reason}")


def test_receivers(receivers: "list[ReadyReceiver]", as_json: bool) -> int:
    """Send each receiver a message, print what came of it, and return the exit code."""
    from dataclasses import asdict

    from aeops.alerts.notices import test_of
    from aeops.alerts.receivers import send_to
    from aeops.errors import InfrastructureError
    from aeops.project import find_project

    project, results = find_project(), []
    for one in receivers:
        results += send_to(project, test_of(one.target.name), [one])
    if as_json:
        print_json(list(map(asdict, results)))
    else:
        _print_results(results)
    return 0 if all(result.state == "sent" for result in results) else InfrastructureError.exit_code


def _facts(receiver: "ReadyReceiver") -> dict[str, Any]:
    """Return what can be said of a receiver: no secret is part of it."""
    target = receiver.target
    return {
        "name": target.name,
        "kind": target.kind,
        "at": receiver.place,
        "events": list(target.events),
        "recipes": list(target.recipes),
        "repeat_hours": target.repeat_hours,
        "problem": receiver.problem or None,
    }


def _unknown_recipes(receivers: "list[ReadyReceiver]") -> list[str]:
    from aeops.project import find_project
    from aeops.recipe.reader import recipe_names

    named: set[str] = set()
    for one in receivers:
        named.update(one.target.recipes)
    return sorted(named.difference(recipe_names(find_project())))
