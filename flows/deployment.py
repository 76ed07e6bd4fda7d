"""`python -m flows.deployment`: create work pool, deployments and automations from prefect.yaml and the settings of `ae up`.

Every part can be repeated: what exists is updated or left alone. The deployments are created again only if prefect.yaml has
changed or one is missing, so that a schedule which somebody has resumed on Prefect's page stays resumed.
"""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import yaml
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectAlreadyExists
from prefect.workers.process import ProcessWorker

from aeops.errors import InfrastructureError, UsageError
from aeops.files import file_sha256
from aeops.machine.child_process import tied_command
from aeops.machine.entry_point import run_main
from aeops.machine.stack_settings import SetupRecord, read_settings, read_setup_record, write_setup_record
from aeops.project import Project, find_project
from aeops.stack.alarms import ALARM_EVENT
from aeops.stack.maintenance import delete_missed_runs
from aeops.stack.prefect_api import PrefectApi, stack_prefect_api
from aeops.stack.schedules import find_skipped_schedules
from aeops.stack.service_definitions import WORK_POOL

BLOCK_NAME = "ae-notify"  # Prefect's block with the address
SERVER_START_SECONDS = 120.0  # on a busy machine

# Name of the automation -> events, and subject and body as Prefect's templates.
RUN_MESSAGE = ("{{ flow_run.name }}: {{ flow_run.state.name }}", "{{ flow_run.state.message }}\n{{ flow_run|ui_url }}")
NOTIFICATION_TEMPLATES = {
    "ae: a run has failed": ({"prefect.flow-run.Failed", "prefect.flow-run.Crashed"}, *RUN_MESSAGE),
    "ae: a run waits for a person": ({"prefect.flow-run.Suspended"}, *RUN_MESSAGE),
    "ae: an alarm": ({ALARM_EVENT}, "{{ event.payload.name }}", "{{ event.payload.says }}"),
}


def main() -> None:
    """Create everything; raise InfrastructureError if Prefect fails, which leaves what was created until then."""
    project = find_project()
    settings = read_settings(project)
    if settings is None:
        raise UsageError("no stack was started here: type `ae up`")
    api = stack_prefect_api(project, settings)
    api.wait_until_healthy(SERVER_START_SECONDS)
    with get_client(sync_client=True) as client:
        create_work_pool(client)
        yaml_sha256 = apply_deployments(project, api)
        set_notifications(client, settings.notify_url)
    for message in delete_missed_runs(api):  # before a worker takes them all
        print(message)
    for message in find_skipped_schedules(project, datetime.now(UTC)):
        print(f"note: {message}")
    write_setup_record(project, SetupRecord(settings.request_id, yaml_sha256))


def create_work_pool(client: SyncPrefectClient) -> None:
    try:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=WORK_POOL, type=ProcessWorker.type, base_job_template=template))
    except ObjectAlreadyExists:
        print(f"the work pool {WORK_POOL} is there")


def apply_deployments(project: Project, api: PrefectApi) -> str:
    """Run `prefect deploy --all`, unless every deployment is as in prefect.yaml.

    Returns:
        The SHA-256 of prefect.yaml.

    Raises:
        InfrastructureError: the command fails.
    """
    file = project.root / "prefect.yaml"
    yaml_sha256 = file_sha256(file)
    expected_names = {entry["name"] for entry in yaml.safe_load(file.read_text(encoding="utf-8"))["deployments"] or []}
    if not expected_names:
        return yaml_sha256  # no recipe was run here yet
    existing_names = {deployment["name"] for deployment in api.deployments()}
    if not expected_names <= existing_names or yaml_sha256 != last_deployed_sha256(project):
        command = tied_command([sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"])
        process = subprocess.run(command, cwd=project.root, capture_output=True, text=True, timeout=600, check=False)
        print(process.stdout)
        if process.returncode:
            raise InfrastructureError(
                f"`prefect deploy --all` ended with exit code {process.returncode}: {process.stderr[-2000:]}"
            )
    return yaml_sha256


def last_deployed_sha256(project: Project) -> str | None:
    record = read_setup_record(project)
    if record is None:
        return None
    return record.deployments_sha256


# ---------------------------------------------------------------- notifications


def set_notifications(client: SyncPrefectClient, address: str | None) -> None:
    """Create the automations that notify `address`; without one, delete those of an earlier `ae up`."""
    if address is None:
        for name in NOTIFICATION_TEMPLATES:
            for automation in client.read_automations_by_name(name):
                client.delete_automation(automation.id)
        return
    message = {"subject": "{{subject}}", "body": "{{body}}"}
    block = CustomWebhookNotificationBlock(name="ae", url=address, json_data=message, headers=None, cookies=None)
    block_id = block.save(BLOCK_NAME, overwrite=True)
    for new_automation in build_automations(block_id):
        if existing := client.read_automations_by_name(new_automation.name):
            client.update_automation(existing[0].id, new_automation)
        else:
            client.create_automation(new_automation)


def build_automations(block_id: Any) -> Iterator[AutomationCore]:
    for name, (events, subject, body) in NOTIFICATION_TEMPLATES.items():
        yield AutomationCore(
            name=name,
            trigger=EventTrigger(expect=events, posture=Posture.Reactive, threshold=1),
            actions=[SendNotification(block_document_id=block_id, subject=subject, body=body)],
        )


if __name__ == "__main__":
    run_main(main)
