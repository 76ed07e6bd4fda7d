"""`python -m flows.deploying`: work pool, deployments and automations, as prefect.yaml and the settings of `ae up` say.

Every part can be done again: what is there already is brought up to date, or left alone. The deployments are made anew only
where prefect.yaml has changed or one is missing, so that a schedule which somebody has resumed on Prefect's page stays resumed.
"""

import subprocess
import sys
from collections.abc import Iterator
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
from aeops.machine.entry_point import run_main
from aeops.machine.stack_settings import SetupRecord, read_settings, read_setup_record, write_setup_record
from aeops.project import Project, find_project
from aeops.stack.alarms import ALARM_EVENT
from aeops.stack.maintenance import delete_missed_runs
from aeops.stack.prefect_api import PrefectApi
from aeops.stack.service_definitions import WORK_POOL, prefect_api_url

BLOCK = "ae-notify"  # the block that holds the address
_HEALTHY_TIMEOUT = 120.0  # seconds for a server that is just starting, on a busy machine

# What people are told of: a name of ours, the events, subject and body with Prefect's own words in them.
ABOUT_A_RUN = ("{{ flow_run.name }}: {{ flow_run.state.name }}", "{{ flow_run.state.message }}\n{{ flow_run|ui_url }}")
TOLD = {
    "ae: a run has failed": ({"prefect.flow-run.Failed", "prefect.flow-run.Crashed"}, *ABOUT_A_RUN),
    "ae: a run waits for a person": ({"prefect.flow-run.Suspended"}, *ABOUT_A_RUN),
    "ae: an alarm": ({ALARM_EVENT}, "{{ event.payload.name }}", "{{ event.payload.says }}"),
}


def main() -> None:
    """Raises InfrastructureError where Prefect's server or its command line fails; what was done until then stays."""
    project = find_project()
    settings = read_settings(project)
    if settings is None:
        raise UsageError("no stack is asked for here: type `ae up`")
    api = PrefectApi(prefect_api_url(settings), settings.credentials)
    api.wait_until_healthy(_HEALTHY_TIMEOUT)
    with get_client(sync_client=True) as client:
        make_pool(client)
        checksum = deploy(project, api)
        set_notifications(client, settings.notify_url)
    for message in delete_missed_runs(api):  # before a worker takes them all
        print(message)
    write_setup_record(project, SetupRecord(settings.request_id, checksum))


def make_pool(client: SyncPrefectClient) -> None:
    try:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=WORK_POOL, type=ProcessWorker.type, base_job_template=template))
    except ObjectAlreadyExists:
        print(f"the work pool {WORK_POOL} is there")


def deploy(project: Project, api: PrefectApi) -> str:
    """`prefect deploy --all`, unless every deployment is there as prefect.yaml has it; returns the file's SHA-256."""
    file = project.root / "prefect.yaml"
    checksum = file_sha256(file)
    wanted = {entry["name"] for entry in yaml.safe_load(file.read_text(encoding="utf-8"))["deployments"]}
    missing = wanted - {deployment["name"] for deployment in api.deployments()}
    if missing or checksum != _last_checksum(project):
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
        done = subprocess.run(command, cwd=project.root, capture_output=True, text=True, timeout=600, check=False)
        print(done.stdout)
        if done.returncode:
            raise InfrastructureError(f"`prefect deploy --all` ended with exit code {done.returncode}: {done.stderr[-2000:]}")
    return checksum


def _last_checksum(project: Project) -> str | None:
    record = read_setup_record(project)
    if record is None:
        return None
    return record.deployments_sha256


# ---------------------------------------------------------------- telling people


def set_notifications(client: SyncPrefectClient, address: str | None) -> None:
    """Makes the automations that tell `address`; without one, takes away those of an earlier `ae up`."""
    if address is None:
        for name in TOLD:
            for made in client.read_automations_by_name(name):
                client.delete_automation(made.id)
        return
    message = {"subject": "{{subject}}", "body": "{{body}}"}
    block = CustomWebhookNotificationBlock(name="ae", url=address, json_data=message, headers=None, cookies=None)
    block_id = block.save(BLOCK, overwrite=True)
    for automation in automations(block_id):
        if known := client.read_automations_by_name(automation.name):
            client.update_automation(known[0].id, automation)
        else:
            client.create_automation(automation)


def automations(block_id: Any) -> Iterator[AutomationCore]:
    for name, (events, subject, body) in TOLD.items():
        yield AutomationCore(
            name=name,
            trigger=EventTrigger(expect=events, posture=Posture.Reactive, threshold=1),
            actions=[SendNotification(block_document_id=block_id, subject=subject, body=body)],
        )


if __name__ == "__main__":
    run_main(main)
