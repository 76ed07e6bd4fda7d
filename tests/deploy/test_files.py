"""The files of deploy/ as files: their formats by the tools made for them, and what they promise each other.

No container is started here. What a tool is missing for is skipped, and says so.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkout import ROOT

from aeops.machine.library_settings import FIXED_SETTINGS

DEPLOY = ROOT / "deploy"
BIN = DEPLOY / "bin"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
OBJECTS = [
    document
    for file in MANIFESTS
    if file.name != "kustomization.yaml"
    for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))
]
RAY_MANIFESTS = sorted((DEPLOY / "kubernetes" / "ray").glob("*.yaml"))
RAY_OBJECTS = [
    document
    for file in RAY_MANIFESTS
    if file.name != "kustomization.yaml"
    for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))
]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
KUBERNETES = ("1.31", "1.37")  # the oldest that kustomization.yaml names, and the newest that the validator knows
DCLINT = "dclint@3.1.0"


def run(*command: str | Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)


def is_script(file: Path, interpreter: str) -> bool:
    first = file.read_text(encoding="utf-8").splitlines()[0]
    return interpreter in first and not file.name.startswith(".")


def scripts(interpreter: str) -> list[Path]:
    return [file for file in sorted(BIN.iterdir()) if file.is_file() and is_script(file, interpreter)]


def workloads() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and pod of everything on Kubernetes that runs containers."""
    for document in OBJECTS:
        if document["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield document["metadata"]["name"], document["spec"]["template"]["spec"]


WORKLOADS = dict(workloads())


# ---------------------------------------------------------------- formats


def test_yaml_is_well_formed_and_styled() -> None:
    done = run(sys.executable, "-m", "yamllint", "--strict", "-c", DEPLOY / ".yamllint", DEPLOY)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_compose_is_what_the_specification_allows() -> None:
    """By Docker's own client where it has the plugin, else by the specification's schema as dclint brings it."""
    if shutil.which("docker") and run("docker", "compose", "version").returncode == 0:
        for profile in ((), ("--profile", "score")):
            done = run("docker", "compose", "--file", DEPLOY / "compose.yaml", *profile, "config", "--quiet")
            assert done.returncode == 0, done.stderr
    elif shutil.which("npx"):
        known = run("npx", "--yes", "--fetch-retries=0", DCLINT, "--version", timeout=400)
        if known.returncode != 0:
            pytest.skip(f"no `docker compose`, and npx cannot bring {DCLINT}: {known.stderr.strip()[-200:]}")
        done = run("npx", "--yes", DCLINT, "--config", DEPLOY / ".dclintrc.json", "--max-warnings", "0", DEPLOY / "compose.yaml")
        assert done.returncode == 0, done.stdout
    else:
        pytest.skip("no `docker compose` and no npx here: compose.yaml was held against no schema")


@pytest.mark.slow
@pytest.mark.parametrize("version", KUBERNETES)
def test_manifests_are_what_kubernetes_allows(version: str) -> None:
    files = [*(file for file in MANIFESTS if file.name != "kustomization.yaml"), DEPLOY / "work-pools" / "kubernetes-role.yaml"]
    validator = Path(sys.executable).with_name("kubernetes-validate")
    done = run(validator, "--kubernetes-version", version, "--strict", "--no-warn", *files)
    assert done.returncode == 0, done.stdout + done.stderr


def ray_pods() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name, metadata and pod of everything beside the Ray cluster, and of its own nodes."""
    for document in RAY_OBJECTS:
        spec = document.get("spec", {})
        if document["kind"] == "Job":
            yield "run", spec["template"]["metadata"], spec["template"]["spec"]
        elif document["kind"] == "RayCluster":
            for name, group in (("head", spec["headGroupSpec"]), *((one["groupName"], one) for one in spec["workerGroupSpecs"])):
                yield name, group["template"]["metadata"], group["template"]["spec"]


RAY_PODS = {name: (labels, pod) for name, labels, pod in ray_pods()}


@pytest.mark.parametrize("version", KUBERNETES)
def test_manifests_of_ray_are_what_kubernetes_and_its_operator_allow(version: str, tmp_path: Path) -> None:
    """The operator's own kind is unknown to the validator: its pods are held against the schema of pods."""
    validator = Path(sys.executable).with_name("kubernetes-validate")
    files = [file for file in RAY_MANIFESTS if file.name not in ("kustomization.yaml", "cluster.yaml")]
    for name, (metadata_of_pod, pod) in RAY_PODS.items():
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata_of_pod | {"name": name}, "spec": pod}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(manifest), encoding="utf-8")
        files.append(tmp_path / f"{name}.yaml")
    done = run(validator, "--kubernetes-version", version, "--strict", "--no-warn", *files)
    assert done.returncode == 0, done.stdout + done.stderr
    [cluster] = [document for document in RAY_OBJECTS if document["kind"] == "RayCluster"]
    assert cluster["apiVersion"] == "ray.io/v1"
    assert set(cluster["spec"]) == {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
    assert set(cluster["spec"]["headGroupSpec"]) == {"rayStartParams", "template"}
    for group in cluster["spec"]["workerGroupSpecs"]:
        assert set(group) == {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}


def test_a_ray_cluster_is_the_locked_ray_with_a_token_and_fenced_in() -> None:
    [cluster] = [document for document in RAY_OBJECTS if document["kind"] == "RayCluster"]
    assert cluster["spec"]["rayVersion"] == metadata.version("ray")
    listed = yaml.safe_load((DEPLOY / "kubernetes" / "ray" / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    assert set(listed) == {file.name for file in RAY_MANIFESTS} - {"kustomization.yaml"}
    for _, pod in RAY_PODS.values():
        [container] = pod["containers"]
        settings = {entry["name"]: entry["value"] for entry in container["env"]}
        assert settings["RAY_AUTH_MODE"] == "token"
        assert settings["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray-token"
        assert settings["RAY_USAGE_STATS_ENABLED"] == "0"
        assert container["image"] == f"ae-pipeline:{metadata.version('ae-pipeline')}"
        assert container["securityContext"] == WORKLOADS["worker"]["containers"][0]["securityContext"]
        assert pod["securityContext"] == WORKLOADS["worker"]["securityContext"]
        assert pod["automountServiceAccountToken"] is False
        for kind in ("requests", "limits"):
            assert {"cpu", "memory"} == set(container["resources"][kind])


def test_the_kubernetes_template_makes_a_job_that_kubernetes_allows(tmp_path: Path) -> None:
    template = json.loads((DEPLOY / "work-pools" / "kubernetes.json").read_text(encoding="utf-8"))
    job = filled(template["job_configuration"]["job_manifest"], template["variables"]["properties"])
    job["metadata"]["name"] = job["metadata"].pop("generateName") + "1"  # as the API server does; the validator asks for a name
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(job), encoding="utf-8")
    done = run(Path(sys.executable).with_name("kubernetes-validate"), "--kubernetes-version", KUBERNETES[0], "--strict", file)
    assert done.returncode == 0, done.stdout + done.stderr


def filled(part: Any, variables: dict[str, Any]) -> Any:
    """A template with its variables' defaults in their places, as Prefect's worker fills them in."""
    given = {"name": "run", "labels": {}, "command": ["prefect", "flow-run", "execute"]}
    if isinstance(part, dict):
        return {key: filled(value, variables) for key, value in part.items()}
    if isinstance(part, list):
        return [filled(value, variables) for value in part]
    if not isinstance(part, str) or "{{" not in part:
        return part
    name = part.strip("{} -").split(" ")[0]
    value = given.get(name, variables.get(name, {}).get("default"))
    assert value is not None, f"{name} has no default"
    if name == "env":
        return [{"name": key, "value": text} for key, text in value.items()]
    return f"{value}-" if part.endswith("-") else value


@pytest.mark.parametrize("script", [*scripts("bash"), BIN / "common.sh"], ids=lambda file: file.name)
def test_shell_scripts_parse(script: Path) -> None:
    done = run("bash", "-n", script)
    assert done.returncode == 0, done.stderr
    assert "set -euo pipefail" in script.read_text(encoding="utf-8") + (BIN / "common.sh").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck (Debian: shellcheck): scripts were parsed only")
def test_shell_scripts_pass_shellcheck() -> None:
    done = run("shellcheck", "--external-sources", *scripts("bash"))
    assert done.returncode == 0, done.stdout


def test_python_scripts_are_held_to_the_rules_of_the_packages() -> None:
    files = scripts("python")
    assert len(files) == 4
    for command in (("check",), ("format", "--check")):
        done = run(sys.executable, "-m", "ruff", *command, *files)
        assert done.returncode == 0, done.stdout + done.stderr


def test_scripts_can_be_executed() -> None:
    assert not [file.name for file in scripts("env") if not file.stat().st_mode & 0o111]


# ---------------------------------------------------------------- the image


def instructions() -> list[str]:
    joined = re.sub(r"\\\n", " ", "\n".join(line for line in DOCKERFILE.splitlines() if not line.startswith("#")))
    return [line.strip() for line in joined.splitlines() if line.strip()]


def test_every_base_image_is_pinned_and_every_stage_that_runs_has_a_user() -> None:
    stages: dict[str, list[str]] = {}
    for line in instructions():
        if line.startswith("FROM "):
            base, name = line.split()[1], line.split()[-1]
            assert base == "scratch" or re.fullmatch(r"[a-z0-9./-]+:\d+\.\d+[a-z0-9.-]*", base), base
            stages[name] = []
        else:
            stages[name].append(line)
    for name in ("ae", "object-store"):
        users = [line.split()[1] for line in stages[name] if line.startswith("USER ")]
        assert users[-1] == "10001:10001", f"stage {name} ends as {users}"


def test_the_image_names_no_registry_and_holds_no_secret() -> None:
    assert not re.search(r"https?://(?!an\.index\.of)", DOCKERFILE)
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert "*" in ignored
    copied = {word for line in instructions() if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]}
    assert copied == allowed == {"requirements.lock", "deploy/requirements.lock", ".git"}


def test_the_image_turns_off_telemetry_as_the_code_does() -> None:
    told = dict(pair.split("=", 1) for line in instructions() if line.startswith("ENV ") for pair in line.split()[1:])
    assert {name: told.get(name) for name in FIXED_SETTINGS} == FIXED_SETTINGS


def test_the_images_own_lock_adds_to_the_projects_and_repeats_nothing() -> None:
    ours, extra = (names(ROOT / file) for file in ("requirements.lock", "deploy/requirements.lock"))
    assert not ours & extra
    wanted = names(DEPLOY / "requirements.in")
    assert wanted <= extra | ours


def names(file: Path) -> set[str]:
    return set(re.findall(r"^([a-z0-9][a-z0-9._-]*)", file.read_text(encoding="utf-8"), re.MULTILINE))


# ---------------------------------------------------------------- one rule for both


def images() -> Iterator[str]:
    yield from (service["image"] for service in SERVICES.values())
    yield from (container["image"] for pod in WORKLOADS.values() for container in pod["containers"])


def test_every_image_is_pinned_to_a_version_and_both_run_the_same() -> None:
    for image in images():
        assert re.fullmatch(r"[a-z0-9./-]+:\d+\.\d+[a-z0-9.-]*", image), image
        if image.startswith("ae-"):
            assert image.partition(":")[2] == metadata.version("ae-pipeline")
    for name, pod in WORKLOADS.items():
        assert [container["image"] for container in pod["containers"]] == [SERVICES[name]["image"]]
    assert set(WORKLOADS) == set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_of_compose_is_fenced_in(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"]), "root, or no user"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"cpus", "memory"} == set(service["deploy"]["resources"]["limits"])
    assert "privileged" not in service
    if name == "migrate":
        assert service["restart"].startswith("on-failure:")
    else:
        assert service["restart"] == "unless-stopped"
        assert {"test", "interval", "timeout", "retries", "start_period"} == set(service["healthcheck"])


def test_whoever_opens_a_database_waits_until_it_is_migrated() -> None:
    for name, service in SERVICES.items():
        if {"mlflow-database-password", "prefect-database-password"} & set(service["secrets"]) and name != "migrate":
            assert service["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    waited = {name: needs["condition"] for service in SERVICES.values() for name, needs in service.get("depends_on", {}).items()}
    assert {name for name, condition in waited.items() if condition == "service_healthy"} == set(waited) - {"migrate"}
    for name in ("mlflow-server", "prefect-server"):
        assert "--wait" in (BIN / name).read_text(encoding="utf-8")


def test_ports_are_published_on_loopback_alone() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 3
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in published)
    assert not [service["spec"] for service in OBJECTS if service["kind"] == "Service" and "type" in service["spec"]]


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_pod_is_fenced_in(name: str) -> None:
    pod = WORKLOADS[name]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    [container] = pod["containers"]
    wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert container["securityContext"] == wanted
    for kind in ("requests", "limits"):
        assert {"cpu", "memory"} == set(container["resources"][kind])
    if name != "migrate":
        assert "livenessProbe" in container
    if name not in ("migrate", "worker"):  # nobody asks those
        assert "readinessProbe" in container
    assert pod["securityContext"]["runAsUser"] == int(SERVICES[name]["user"].split(":")[0])


def test_scoring_grows_with_its_load_and_outlives_a_drained_node() -> None:
    of_kind = {(entry["kind"], entry["metadata"]["name"]): entry.get("spec", {}) for entry in OBJECTS}
    scaler, budget = of_kind[("HorizontalPodAutoscaler", "score")], of_kind[("PodDisruptionBudget", "score")]
    assert scaler["minReplicas"] > budget["minAvailable"]
    assert "replicas" not in of_kind[("Deployment", "score")], "an apply would undo what the scaler decided"
    [container] = WORKLOADS["score"]["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["exec"]["command"] == SERVICES["score"]["healthcheck"]["test"][1:]
    assert container["readinessProbe"]["exec"]["command"][1].endswith("/readyz")


def test_only_the_worker_writes_to_the_ledger_that_says_what_is_served() -> None:
    shared = {name: service["volumes"] for name, service in SERVICES.items() if "ledger:" in str(service.get("volumes"))}
    assert {name for name, volumes in shared.items() if "ledger:/state/ledger" in volumes} == {"worker"}
    assert {name for name, volumes in shared.items() if "ledger:/state/ledger:ro" in volumes} == {"score"}
    mounted = {}
    for name, pod in WORKLOADS.items():
        for mount in pod["containers"][0].get("volumeMounts", []):
            if mount["name"] == "ledger":
                mounted[name] = (mount["mountPath"], mount.get("readOnly", False))
    assert mounted == {"worker": ("/state/ledger", False), "score": ("/state/ledger", True)}


def test_pods_reach_each_other_exactly_where_compose_lets_services() -> None:
    allowed = set()
    for policy in (entry["spec"] for entry in OBJECTS if entry["kind"] == "NetworkPolicy"):
        to = policy["podSelector"].get("matchLabels", {}).get("app")
        for rule in policy.get("ingress", []):
            for peer in rule["from"]:
                for match in peer.get("podSelector", {}).get("matchExpressions", []):
                    allowed |= {(client, to) for client in match["values"]}
    needed = {("migrate", "postgres"), ("migrate", "object-store")}
    for name in SERVICES:
        addresses = " ".join(str(value) for value in environment(SERVICES[name]).values())
        needed |= {(name, host) for host in re.findall(r"http://([a-z-]+):", addresses)}
    needed |= {(name, "postgres") for name in ("mlflow", "prefect")}
    needed -= {("prefect", "object-store"), ("score", "prefect")}  # told of an address that they do not use
    assert allowed == needed


# ---------------------------------------------------------------- commands, secrets, settings


def environment(service: dict[str, Any]) -> dict[str, str]:
    return dict(service.get("environment", {}))


def test_ours_are_started_and_asked_by_the_scripts_that_are_tested() -> None:
    checks = {name: service["healthcheck"]["test"][1] for name, service in SERVICES.items() if "healthcheck" in service}
    assert {checks.pop(name) for name in ("postgres", "object-store")} == {"pg_isready", "wget"}
    assert set(checks.values()) == {"healthy"}
    commands = {name: service["command"] for name, service in SERVICES.items() if service["image"].startswith("ae-pipeline")}
    assert {command[0] for command in commands.values()} == {"migrate", "mlflow-server", "prefect-server", "worker", "score"}
    for name, command in commands.items():
        assert len(command) == 1
        assert (BIN / command[0]).is_file()
        assert WORKLOADS[name]["containers"][0]["args"] == command


def test_every_secret_is_used_and_by_the_same_in_both() -> None:
    files = {name: entry["file"] for name, entry in COMPOSE["secrets"].items()}
    assert files == {name: f"secrets/{name}" for name in files}
    used = {name: set(service.get("secrets", [])) for name, service in SERVICES.items()}
    assert set().union(*used.values()) == set(files)
    for name, pod in WORKLOADS.items():
        [volume] = [entry["secret"] for entry in pod["volumes"] if "secret" in entry]
        assert {item["key"] for item in volume["items"]} == used[name]


def test_a_service_is_given_exactly_the_secrets_that_its_script_reads() -> None:
    for name, service in SERVICES.items():
        if service["image"].startswith("ae-pipeline"):
            text = (BIN / service["command"][0]).read_text(encoding="utf-8")
            text += "prefect-password" * ("prefect_access" in text)  # which common.sh reads
            text += f"{name}-database-password" * ("database_url" in text)
            text += "mlflow-database-password prefect-database-password" * ("DATABASES" in text)
            assert {secret for secret in COMPOSE["secrets"] if secret in text} == set(service["secrets"]), name


def test_no_secret_is_in_git_or_in_an_environment() -> None:
    tracked = run("git", "ls-files", "deploy/secrets").stdout.split()
    assert tracked in ([], ["deploy/secrets/.gitignore"])
    ignored = run("git", "check-ignore", *(f"deploy/{entry['file']}" for entry in COMPOSE["secrets"].values()))
    assert len(ignored.stdout.split()) == len(COMPOSE["secrets"])
    for settings in all_settings():
        for name, value in settings.items():
            assert not re.search(r"PASSWORD$|SECRET|TOKEN|_KEY|AUTH_STRING", name), name
            assert not re.search(r"://[^/@]*:[^/@]*@", str(value)), name


def all_settings() -> Iterator[dict[str, str]]:
    """Every environment that compose, the manifests and the job templates hand out."""
    yield from (environment(service) for service in SERVICES.values())
    yield from (entry["data"] for entry in OBJECTS if entry["kind"] == "ConfigMap")
    for pod in WORKLOADS.values():
        yield {entry["name"]: entry["value"] for container in pod["containers"] for entry in container.get("env", [])}
    for kind in ("docker", "kubernetes"):
        template = json.loads((DEPLOY / "work-pools" / f"{kind}.json").read_text(encoding="utf-8"))
        yield template["variables"]["properties"]["env"]["default"]


def test_every_setting_is_one_that_somebody_reads() -> None:
    from mlflow import environment_variables

    ours = "".join(file.read_text(encoding="utf-8") for file in [*BIN.iterdir(), *(ROOT / "aeops").rglob("*.py")])
    images_own = {"POSTGRES_PASSWORD_FILE", "POSTGRES_INITDB_ARGS", "PGDATA", "PYTHONPATH"}
    prefects = prefect_settings()
    for name in {name for settings in all_settings() for name in settings}:
        known = re.search(rf"\b{name}\b", ours) or hasattr(environment_variables, name) or name in images_own | prefects
        assert known, f"nobody reads {name}"


def prefect_settings() -> set[str]:
    from prefect.settings.base import PrefectBaseSettings
    from prefect.settings.models.root import Settings

    def told(model: type[PrefectBaseSettings]) -> Iterator[str]:
        prefix = model.model_config.get("env_prefix", "")
        for name, field in model.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, PrefectBaseSettings):
                yield from told(field.annotation)
            else:
                yield f"{prefix}{name}".upper()
                yield from (str(alias).upper() for alias in getattr(field.validation_alias, "choices", []))

    return set(told(Settings))


def test_compose_and_kubernetes_hand_out_the_same_settings() -> None:
    given = {entry["metadata"]["name"]: entry["data"] for entry in OBJECTS if entry["kind"] == "ConfigMap"}
    for name in ("migrate", "mlflow", "prefect", "worker", "score"):
        [container] = WORKLOADS[name]["containers"]
        [source] = container["envFrom"]
        here = given[source["configMapRef"]["name"]] | {entry["name"]: entry["value"] for entry in container.get("env", [])}
        there = environment(SERVICES[name])
        shared = {key: (here[key], re.sub(r"\$\{\w+:-(.*)}", r"\1", there[key])) for key in here.keys() & there.keys()}
        assert not {key: pair for key, pair in shared.items() if pair[0] != pair[1]}
        assert there.keys() - here.keys() <= {"AE_SOURCES"}  # a folder of the host's, which no node of a cluster has


# ---------------------------------------------------------------- small scripts


def test_secrets_once_made_stay(tmp_path: Path) -> None:
    assert run(sys.executable, BIN / "make-secrets", tmp_path).returncode == 0
    before = {file.name: file.read_text(encoding="utf-8") for file in tmp_path.iterdir()}
    (tmp_path / "prefect-password").unlink()
    assert run(sys.executable, BIN / "make-secrets", tmp_path).returncode == 0
    after = {file.name: file.read_text(encoding="utf-8") for file in tmp_path.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"prefect-password"}
    assert set(before) == set(COMPOSE["secrets"])
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    [identity] = json.loads(after["object-store-identities"])["identities"]
    [pair] = identity["credentials"]
    assert f"aws_access_key_id = {pair['accessKey']}\n" in after["object-store-credentials"]
    assert f"aws_secret_access_key = {pair['secretKey']}\n" in after["object-store-credentials"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A git repository with the files that matter to a worker's checkout."""
    place = tmp_path / "source"
    place.mkdir()
    for name, text in {"code.py": "one", "data.dvc": "committed", "dvc.lock": "committed"}.items():
        (place / name).write_text(text, encoding="utf-8")
    git(place, "init", "--quiet")
    commit(place)
    return place


def git(place: Path, *arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(["git", *who, *arguments], cwd=place, check=True, capture_output=True, text=True).stdout.strip()


def commit(place: Path, **files: str) -> None:
    for name, text in files.items():
        (place / name.replace("_", ".")).write_text(text, encoding="utf-8")
    git(place, "add", "--all")
    git(place, "commit", "--quiet", "--message", "step")


def test_a_workers_checkout_follows_the_code_and_keeps_what_runs_wrote(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    assert run(BIN / "checkout", source, target).returncode == 0
    (target / "dvc.lock").write_text("of a run", encoding="utf-8")
    commit(source, code_py="two", dvc_lock="committed later")
    for _ in range(2):
        done = run(BIN / "checkout", source, target)
        assert done.returncode == 0, done.stderr
        assert (target / "code.py").read_text() == "two"
        assert (target / "dvc.lock").read_text() == "of a run"
        assert git(target, "rev-parse", "HEAD") == git(source, "rev-parse", "HEAD")
        assert git(target, "status", "--short") == "M dvc.lock"


def test_a_checkout_that_somebody_changed_is_left_alone(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    run(BIN / "checkout", source, target)
    (target / "code.py").write_text("mine", encoding="utf-8")
    commit(source, code_py="two")
    done = run(BIN / "checkout", source, target)
    assert (done.returncode, "was changed by hand" in done.stderr) == (2, True)
    assert (target / "code.py").read_text() == "mine"


@pytest.mark.slow
def test_a_checkout_cut_short_anywhere_is_finished_by_the_next(source: Path, tmp_path: Path) -> None:
    """Killed before each of its commands: bash stops there by a trap that counts them."""
    commands = 0
    for cut in range(1, 40):
        target = tmp_path / f"target{cut}"
        run(BIN / "checkout", source, target)
        (target / "dvc.lock").write_text("of a run", encoding="utf-8")
        commit(source, code_py=f"step {cut}", dvc_lock=f"committed {cut}")
        text = (BIN / "checkout").read_text(encoding="utf-8")
        trap = f"count=0\ntrap 'count=$((count + 1)); [ $count -ne {cut} ] || kill -9 $$' DEBUG\n"
        cutting = tmp_path / "cutting"
        cutting.write_text(text.replace("set -euo pipefail\n", f"set -euo pipefail\n{trap}"), encoding="utf-8")
        killed = run("bash", cutting, source, target).returncode == -9
        done = run(BIN / "checkout", source, target)
        assert done.returncode == 0, done.stderr
        assert ((target / "code.py").read_text(), (target / "dvc.lock").read_text()) == (f"step {cut}", "of a run"), cut
        if not killed:
            break
        commands += 1
    assert commands > 10
