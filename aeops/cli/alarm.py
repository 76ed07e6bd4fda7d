"""`ae alarm list` and `ae alarm ack RECIPE`: the alarms of monitoring, and who has seen them."""

import argparse
from collections.abc import Mapping
from typing import Any

from aeops.cli.outputs import add_json_option, print_json


def add_command(commands: Any) -> None:
    """Add `ae alarm` and its subcommands to the commands of the parser."""
    command = commands.add_parser("alarm", help="list the alarms of monitoring; say that you have seen one, and why it may stay")
    subcommands = command.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = subcommands.add_parser("list", help="list the alarms of every champion, and who has seen them")
    add_json_option(listing)
    listing.set_defaults(run=run_list)
    ack = subcommands.add_parser("ack", help="record in the ledger that you have seen a recipe's alarms")
    ack.add_argument("recipe", help="name of a recipe, such as digits")
    ack.add_argument("--why", required=True, metavar="TEXT", help="the cause, or what is done about it")
    ack.add_argument("--by", metavar="NAME", help="who has seen them (default: AE_BY, else the login name)")
    ack.set_defaults(run=run_ack)


def run_list(arguments: argparse.Namespace) -> int:
    """Print a line for each alarm; return 0, also where there are some."""
    from aeops.monitoring.alarm_answers import describe_alarm_answer
    from aeops.monitoring.retrains import read_retrains
    from aeops.monitoring.verdict import read_last_verdict
    from aeops.project import find_project
    from aeops.registry import ledger
    from aeops.stack.alarms import read_alarms

    project = find_project()
    rows: list[dict[str, Any]] = []
    for alarm in read_alarms(project):
        entries = ledger.read_content(project, alarm.recipe).entries
        verdict: Mapping[str, Any] = read_last_verdict(project, alarm.recipe) or {}
        rows.append({**alarm.to_dict(), "answer": describe_alarm_answer(verdict, read_retrains(project, alarm.recipe), entries)})
    if arguments.json:
        print_json(rows)
        return 0
    for row in rows:
        print(f"{row['recipe']}: {row['signal']}: {row['says']}")
        seen_line = f"not seen yet: ae alarm ack {row['recipe']} --why TEXT"
        if row["seen_by"] is not None:
            seen_line = f"seen by {row['seen_by']}: {row['why']}"
        print(f"    {seen_line}")
        print(f"    {row['answer']}")
    if not rows:
        print("no alarm")
    return 0


def run_ack(arguments: argparse.Namespace) -> int:
    """Write the entry and print it, or the entry by which the same alarms were seen before; return 0.

    Raises:
        UsageError: an unknown recipe, or one without an alarm of its present champion.
        DataError: the ledger is not intact.
    """
    from aeops.cli.actors import actor_name
    from aeops.cli.recipe_names import require_recipe_name
    from aeops.errors import UsageError
    from aeops.monitoring.run_notices import tell_decision
    from aeops.monitoring.verdict import find_alarms, read_last_verdict
    from aeops.project import find_project
    from aeops.registry import ledger, promotion
    from aeops.registry.acknowledgement import ACKNOWLEDGEMENT, alarm_evidence, find_acknowledgement
    from aeops.registry.store import open_store

    project, recipe = find_project(), arguments.recipe
    require_recipe_name(project, recipe)
    verdict = read_last_verdict(project, recipe)
    entries = ledger.read_entries(project, recipe)
    champion = ledger.champion_at(entries)
    alarms = find_alarms(verdict) if verdict is not None and verdict["version"] == champion else []
    if champion is None or not alarms:
        raise UsageError(f"no alarm of the present champion of {recipe}: `ae monitor {recipe}` checks now")
    names = ", ".join(alarm["name"] for alarm in alarms)
    if seen := find_acknowledgement(entries, [alarm["name"] for alarm in alarms]):
        print(f"seen       {names} of {recipe} {champion}, by {seen.who} before: line {seen.number} of the ledger, {seen.why}")
        print("recorded   nothing: an alarm is acknowledged once")
        return 0
    decision = ledger.Decision(
        ACKNOWLEDGEMENT, recipe, champion, actor_name(arguments.by), arguments.why, alarm_evidence(entries, alarms)
    )
    line = promotion.record_decision(open_store(project), decision)
    print(f"seen       {names} of {recipe} {champion}, by {line.who}: line {line.number} of the ledger")
    tell_decision(project, line)
    print(f"closed     by the next champion: ae run {recipe} | ae history {recipe}")
    return 0
