"""Environment variables set before a library reads them: telemetry off, bounded waits, no proxy to this machine's own servers.

Standard library only.
"""

import os

from aeops.machine.network import proxy_exclusions

FIXED_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",  # the word: MLflow ignores `1`
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime's, which starts on import
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",  # or a uv.lock in the current folder would change what is logged
}
_DEFAULT_SETTINGS = {
    # `mlflow server` would start eight more processes (600 MB) for jobs that nothing here has.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # An MLflow server that is gone is reported within half a minute, not after the four minutes of MLflow's own settings.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds for a response to begin
}


def configure_libraries() -> dict[str, str]:
    """Set this process's environment, and so its children's; defaults that the user has set already stay.

    Returns:
        The settings, for a process that is to be started with an environment of its own.
    """
    os.environ.update(FIXED_SETTINGS)
    for name, value in _DEFAULT_SETTINGS.items():
        os.environ.setdefault(name, value)
    exclusions = proxy_exclusions()
    os.environ.update(exclusions)
    return exclusions | {name: os.environ[name] for name in FIXED_SETTINGS | _DEFAULT_SETTINGS}
