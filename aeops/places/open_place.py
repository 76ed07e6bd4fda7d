"""The seam between what is to be done and where: a place takes commands, which are plain values, and runs them.

A command is a module with paths and numbers, and all that it makes is files. So a place needs no more than to start it, to say
when it has ended and how, and to stop it. Progress is a file, too, which whoever waits for the command reads.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aeops.data.stage_runs import StageCommand
from aeops.errors import InfrastructureError
from aeops.machine.terminal import print_progress
from aeops.places.pool import StartCommand
from aeops.places.ray_cluster import RayCluster
from aeops.places.ray_settings import cluster_token, require_ray
from aeops.project import Project
from aeops.recipe.project_settings import read_project_settings
from aeops.recipe.run_place import HERE, RunPlace, parse_place

RUN_ON_VARIABLE = "AE_RUN_ON"  # of a run and its processes: the place that its flag or ae.yaml names
ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class OpenPlace:
    """A place that takes commands.

    Attributes:
        start: starts one.
        cores: that its commands share.
    """

    start: StartCommand
    cores: int


def choose_place(project: Project, requested: str | None) -> RunPlace:
    """Return where stages run: as it is typed (`--on`), or else as ae.yaml says.

    Raises:
        UsageError: no such place, or mistakes in ae.yaml.
    """
    if requested is not None:
        return parse_place(requested, "--on")
    if set_before := os.environ.get(RUN_ON_VARIABLE):
        return parse_place(set_before, RUN_ON_VARIABLE)
    return parse_place(read_project_settings(project.root).run.on, "ae.yaml: run: on")


def require_place(project: Project, place: RunPlace) -> None:
    """Check what can be known of a place before anything starts.

    Raises:
        UsageError: Ray is not installed, or there is no token.
        InfrastructureError: the cluster does not answer, or others may read its token.
    """
    if place.is_here:
        return
    require_ray()
    if place.host is None:
        return
    cluster_token(project, place)
    try:
        socket.create_connection((place.host, place.port or 0), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise InfrastructureError(
            f"no cluster answers at {place.host}:{place.port} ({error.strerror or error}): expected the address of its head, "
            f"whose port is 6379 unless it was started with another; or type --on {HERE}"
        ) from None


def set_place(project: Project, requested: str | None) -> None:
    """Choose the place of a run and name it to the processes that the run starts.

    Raises:
        AeError: as `choose_place` and `require_place`.
    """
    place = choose_place(project, requested)
    require_place(project, place)
    os.environ[RUN_ON_VARIABLE] = place.text


@contextmanager
def open_place(project: Project, place: RunPlace) -> Iterator[OpenPlace]:
    """Yield a place that takes commands until the block ends; a cluster of this machine is started, and ends with it.

    Raises:
        AeError: as `require_place`; a cluster that refuses the token, or that could not be started.
    """
    cores = _usable_cores()
    if place.is_here:
        yield OpenPlace(StageCommand.start, cores)
        return
    require_place(project, place)
    print_progress(f"opening {place.text}")
    with RayCluster(project, place, cores) as cluster:
        yield OpenPlace(cluster.start, cluster.cores)


def _usable_cores() -> int:
    from aeops.bundle.detector import usable_cores  # here: it brings numpy and onnxruntime

    return usable_cores()
