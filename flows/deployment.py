"""`python -m flows.deployment`: create work pool and deployments from prefect.yaml and the settings of `ae up`.

Every part can be repeated: what exists is updated or left alone. The deployments are created again only if prefect.yaml has
changed or one is missing, so that a schedule which somebody has resumed on Prefect's page stays resumed.
"""

import subprocess
import sys
from datetime import UTC, datetime

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.workers.process import ProcessWorker

from aeops.errors import InfrastructureError, UsageError
from aeops.files import file_sha256
from aeops.machine.child_process import tied_command
from aeops.machine.entry_point import run_main
from aeops.machine.stack_settings import SetupRecord, read_settings, read_setup_record, write_setup_record
from aeops.project import Project, find_project
from aeops.stack.maintenance import delete_missed_runs
from aeops.stack.prefect_api import PrefectApi, stack_prefect_api
from aeops.stack.schedules import find_skipped_schedules
from aeops.stack.service_definitions import WORK_POOL

# What `ae up --notify` of earlier versions made: ae.yaml names the receivers now.
OLD_BLOCK = "custom-webhook", "ae-notify"
OLD_AUTOMATIONS = ("ae: a run has failed", "ae: a run waits for a person", "ae: an alarm")
SERVER_START_SECONDS = 120.0  # on a busy machine


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
        delete_old_automations(client)
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


def delete_old_automations(client: SyncPrefectClient) -> None:
    """Delete the automations of an earlier version, and the block that holds their address."""
    for name in OLD_AUTOMATIONS:
        for automation in client.read_automations_by_name(name):
            client.delete_automation(automation.id)
    block_type, block_name = OLD_BLOCK
    try:
        block = client.read_block_document_by_name(block_name, block_type)
    except ObjectNotFound:
        return
    client.delete_block_document(block.id)


if __name__ == "__main__":
    run_main(main)
