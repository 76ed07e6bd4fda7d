"""`python -m aeops.registry.mlflow_server --port P` is MLflow's server over the project's store, for this machine alone.

It is what `mlflow server` starts, in one process and behind the project's checks of each request: MLflow itself accepts pages
of every port of this machine, and anybody who reaches it may change and delete everything. It stores no artifacts for clients
(`--no-serve-artifacts`): they write to the folder themselves.
"""

import argparse
import os
import uuid
from typing import TYPE_CHECKING

from aeops.machine.http_limits import ConnectionLimits, limited_config
from aeops.machine.library_settings import configure_libraries
from aeops.machine.network import HOST
from aeops.machine.sqlite_sync import sync_every_commit
from aeops.machine.web_guard import WebGuard
from aeops.project import Project, find_project
from aeops.registry.database import artifacts_folder, database_uri

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def create_app(project: Project) -> "ASGIApp":
    """Return MLflow's application over the project's own store, as `mlflow server` sets it up."""
    configure_libraries()
    sync_every_commit()
    # Each module of mlflow.server reads its settings from the environment, some of them when it is imported.
    os.environ.update(server_environment(project))
    from mlflow.server.fastapi_app import app
    from mlflow.server.handlers import initialize_backend_stores

    store_uri = database_uri(project)
    initialize_backend_stores(store_uri, store_uri, artifacts_folder(project).as_uri())
    return WebGuard(app, own_names_only=True)


def server_environment(project: Project) -> dict[str, str]:
    """Return the variables by which MLflow's server opens the project's store, for runs and for versions alike."""
    from mlflow.environment_variables import _MLFLOW_IN_JOB_EXECUTOR, _MLFLOW_SERVER_BOOT_ID, _MLFLOW_SGI_NAME
    from mlflow.server.constants import ARTIFACT_ROOT_ENV_VAR, BACKEND_STORE_URI_ENV_VAR, REGISTRY_STORE_URI_ENV_VAR

    store_uri = database_uri(project)
    return {
        BACKEND_STORE_URI_ENV_VAR: store_uri,
        REGISTRY_STORE_URI_ENV_VAR: store_uri,
        ARTIFACT_ROOT_ENV_VAR: artifacts_folder(project).as_uri(),
        _MLFLOW_SGI_NAME.name: "uvicorn",
        _MLFLOW_SERVER_BOOT_ID.name: uuid.uuid4().hex,
        _MLFLOW_IN_JOB_EXECUTOR.name: "false",
    }


def main() -> None:
    import uvicorn

    parser = argparse.ArgumentParser(prog="python -m aeops.registry.mlflow_server", description="MLflow's server, guarded.")
    parser.add_argument("--port", type=int, required=True, help="port to listen at")
    arguments = parser.parse_args()
    config = limited_config(
        create_app(find_project()),
        ConnectionLimits(),
        host=HOST,
        port=arguments.port,
        lifespan="on",
        proxy_headers=False,
        log_level="warning",
    )
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
