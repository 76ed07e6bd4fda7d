"""How a process comes to a Ray cluster: it starts one of this machine, or joins one that exists, and says why it cannot."""

import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from aeops.errors import InfrastructureError, TransientError, UsageError
from aeops.machine.network import find_free_port
from aeops.places.ray_sessions import make_session
from aeops.places.ray_settings import make_token, ray_environment
from aeops.project import Project
from aeops.recipe.run_place import RunPlace

START_SECONDS = 600.0  # that a cluster may take on a busy machine; 5 s on an idle one
JOIN_SECONDS = 60.0  # that a cluster which exists may take to answer
_POLL_SECONDS = 0.1


class LocalCluster:
    """A cluster of this machine, for as long as the block runs: one node on the loopback device."""

    def __init__(self, project: Project, cores: int) -> None:
        self.project, self.port = project, find_free_port()
        self.session = make_session(project)
        make_token(self.session / "token")
        os.environ.update(ray_environment(self.session / "token", one_machine=True))
        for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN"):  # of another cluster
            os.environ.pop(name, None)
        module = ["aeops.places.ray_keeper", "--session", str(self.session), "--port", str(self.port), "--cores", str(cores)]
        self.log = project.logs / "ray.log"
        with self.log.open("wb") as log:
            self.keeper = subprocess.Popen(
                [sys.executable, "-m", *module],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # it outlives this process, for as long as it takes to end the cluster
            )

    def __enter__(self) -> "LocalCluster":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.keeper.stdin is not None
        self.keeper.stdin.close()
        self.keeper.wait()

    def connect(self) -> None:
        """Wait until the cluster answers.

        Raises:
            InfrastructureError: it has ended, or does not answer in time.
        """
        deadline = time.monotonic() + START_SECONDS
        while not self._has_started():
            if self.keeper.poll() is not None or time.monotonic() > deadline:
                lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
                raise InfrastructureError(f"no Ray cluster could be started here; {self.log} ends with:\n" + "\n".join(lines))
            time.sleep(_POLL_SECONDS)
        connect(f"127.0.0.1:{self.port}", max(JOIN_SECONDS, deadline - time.monotonic()))

    def _has_started(self) -> bool:
        """Return whether the head says that all of its processes are there."""
        return b"--block" in self.log.read_bytes()


def connect(address: str, seconds: float) -> None:
    """Join this process to a cluster.

    Raises:
        UsageError: its token is another one, or this machine is none of its nodes.
        InfrastructureError: it does not answer.
    """
    import ray

    deadline = time.monotonic() + seconds
    while True:
        with tempfile.TemporaryFile() as output:
            try:
                with _errors_to(output):
                    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
                return
            except Exception as error:  # Ray raises a few kinds, and says in its log alone why it was refused
                output.seek(0)
                failure = explain_failure(f"{error} {output.read().decode(errors='replace')}", address)
                if not isinstance(failure, TransientError) or time.monotonic() > deadline:
                    raise failure from error
        with suppress(Exception):
            ray.shutdown()
        time.sleep(1.0)


def leave_cluster() -> None:
    """Leave a cluster that goes on without this process."""
    import ray

    ray.shutdown()


@contextmanager
def _errors_to(file: IO[bytes]) -> Iterator[None]:
    """Send what this process writes to its standard error to a file, also what compiled code writes."""
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def explain_failure(output: str, address: str) -> UsageError | InfrastructureError:
    """Return the error for a person of a cluster that cannot be joined; a TransientError where it may come to answer.

    Args:
        output: of Ray: its exception and what it has logged before.
        address: of the cluster's head.
    """
    text = " ".join(output.split())
    if "AuthToken" in text or "Unauthenticated" in text:
        return UsageError(
            f"the cluster at {address} refuses this token: put the token that it was started with in .ae/ray/token, with mode "
            "0600, or set RAY_AUTH_TOKEN_PATH"
        )
    if "Version mismatch" in text:
        return UsageError(f"the cluster at {address} runs other versions than this machine: install the same ones ({text[:500]})")
    if "No node info found" in text:
        return UsageError(
            f"this machine is no node of the cluster at {address}: commands for a cluster are typed on one of its nodes, such as "
            f"its head; type `ray start --address={address} --num-cpus=0` to make it one that only drives"
        )
    return TransientError(f"the cluster at {address} does not answer: {text[:500]}")


def require_shared_folder(project: Project, place: RunPlace) -> None:
    """Require that each node sees the project's folders by the same path.

    Raises:
        UsageError: names those that do not.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from aeops.places.ray_tasks import read_marker

    marker = project.home / "ray" / f"marker-{os.getpid()}"
    content = f"{os.getpid()} {time.time_ns()}"
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(content, encoding="utf-8")
    probe = ray.remote(read_marker)
    try:
        blind = []
        for node in ray.nodes():
            if not node["Alive"] or not node["Resources"].get("CPU"):
                continue
            at_node = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            seen = probe.options(num_cpus=0, max_retries=0, scheduling_strategy=at_node).remote(str(marker))
            if ray.get(seen, timeout=JOIN_SECONDS) != content:
                blind.append(str(node["NodeManagerAddress"]))
    finally:
        marker.unlink(missing_ok=True)
    if blind:
        raise UsageError(
            f"{place.text}: expected {project.root} and {project.home} by these paths on every node of the cluster, and they are "
            f"not on {', '.join(blind)}: put both on a file system that all nodes mount"
        )
