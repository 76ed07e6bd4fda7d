"""Environment variables set before a library reads them: telemetry off, bounded waits, no proxy to this machine's own servers.

And threads that wait for work sleep soon, as the cores may be needed elsewhere.

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
# How often a thread of OpenMP looks for work before it sleeps. With libgomp's own 300,000 a training on two cores that others
# used as well took more than five times as long as with 10,000, with which one alone is as fast (docs/log.md).
_SPIN_VARIABLE, _SPIN_COUNT = "GOMP_SPINCOUNT", "10000"
_WAIT_VARIABLE = "OMP_WAIT_POLICY"  # a user's own word on the same; libgomp derives the count from it


def configure_libraries() -> dict[str, str]:
    """Set this process's environment, and so its children's; defaults that the user has set already stay.

    Returns:
        The settings, for a process that is to be started with an environment of its own.
    """
    os.environ.update(FIXED_SETTINGS)
    for name, value in _DEFAULT_SETTINGS.items():
        os.environ.setdefault(name, value)
    let_waiting_threads_sleep()
    exclusions = proxy_exclusions()
    os.environ.update(exclusions)
    return exclusions | {name: os.environ[name] for name in FIXED_SETTINGS | _DEFAULT_SETTINGS}


def let_waiting_threads_sleep() -> None:
    """Limit how long threads of OpenMP wait actively, unless the user has set that. It holds if torch is not loaded yet.

    No bit of a result depends on it.
    """
    if _WAIT_VARIABLE not in os.environ:
        os.environ.setdefault(_SPIN_VARIABLE, _SPIN_COUNT)
