"""What the pages say: the state folder's files, and what is known by now of MLflow, the services and Prefect, put together."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aeops.kinds.interface import load_kind
from aeops.kinds.results import PageForm
from aeops.page import state_files
from aeops.page.background_query import Answer
from aeops.page.stack_status import SCORING, TRAINS, Plans, Service
from aeops.page.state_files import LastRun, Part, Story
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.report.report_page import tiles

GOOD, LOOK, NONE = "good", "look", "none"
BAD_ENDS = ("FAILED", "CRASHED")


@dataclass(frozen=True)
class Seen:
    """What is known of everything that is not a file here; each answer may still be missing.

    Attributes:
        registry: see aeops/page/ask_registry.py.
        faults: recipe -> what `ae ledger verify` finds.
    """

    registry: Answer[dict[str, Any]]
    faults: Answer[dict[str, list[str]]]
    services: Answer[dict[str, Service]]
    plans: Answer[Plans]

    @property
    def is_whole(self) -> bool:
        return all(one.at is not None or one.fault for one in (self.registry, self.faults, self.services, self.plans))

    def service(self, name: str) -> Service | None:
        return (self.services.value or {}).get(name)

    @property
    def neighbours(self) -> list[Service]:
        """The services of the stack that belong to no recipe, and not this page itself."""
        return [one for name, one in (self.services.value or {}).items() if not name.startswith(SCORING) and name != "page"]

    @property
    def mlflow_page(self) -> str:
        """Where MLflow can be looked at now; empty where it cannot."""
        address = str((self.registry.value or {}).get("address", ""))
        noted = self.service("mlflow")
        if address.startswith(("http://", "https://")):
            return address.rstrip("/")
        return noted.address.rstrip("/") if noted and noted.state == "up" else ""


@dataclass(frozen=True)
class Trouble:
    """Something that a person should look at, and what to type where there is something."""

    says: str
    command: str = ""


@dataclass(frozen=True)
class RecipeView:
    """Everything that a card or a page shows of a recipe.

    Attributes:
        held: what the registry knows of it; None where that is not known, or nothing was registered.
        tiles: of the champion, as the report has them.
        past, coming: Prefect's runs of it.
    """

    name: str
    recipe: Part[Recipe]
    story: Part[Story]
    run: Part[LastRun]
    monitoring: Part[dict[str, Any]]
    held: dict[str, Any] | None
    tiles: list[dict[str, Any]]
    service: Service | None
    past: list[dict[str, str]]
    coming: list[dict[str, str]]
    troubles: list[Trouble]

    @property
    def champion(self) -> str | None:
        return self.story.value.champion if self.story.value else None

    @property
    def has_version(self) -> bool:
        return bool(self.held and self.held["versions"]) or bool(self.story.value and self.story.value.lines)

    @property
    def state(self) -> str:
        return LOOK if self.troubles else GOOD if self.champion else NONE

    @property
    def trained(self) -> dict[str, str] | None:
        """Prefect's last run that trained; where there is none, the last of any kind."""
        return next((run for run in self.past if run["name"].startswith(TRAINS)), self.past[0] if self.past else None)

    @property
    def planned(self) -> list[dict[str, str]]:
        """The next run of each kind, the soonest first."""
        return list({run["kind"]: run for run in reversed(self.coming)}.values())[::-1]

    @property
    def failed(self) -> list[dict[str, str]]:
        """The last run of each kind, where that failed."""
        last = {run["kind"]: run for run in reversed(self.past)}
        return [run for run in last.values() if run["type"] in BAD_ENDS]

    @property
    def alarms(self) -> list[dict[str, Any]]:
        return list(self.monitoring.value["alarms"]) if self.monitoring.value else []


def recipe_view(project: Project, name: str, seen: Seen) -> RecipeView:
    recipe = state_files.part(lambda: state_files.recipe(project, name))
    story: Part[Story] = state_files.part(lambda: state_files.story(project, name))
    run: Part[LastRun] = state_files.part(lambda: state_files.last_run(project, name))  # type: ignore[arg-type, return-value]
    monitoring: Part[dict[str, Any]] = state_files.part(lambda: state_files.monitoring(project, name))  # type: ignore[arg-type, return-value]
    held = ((seen.registry.value or {}).get("recipes") or {}).get(name)
    known = seen.plans.value or Plans()
    service = seen.service(f"{SCORING}{name}")
    past = (known.past or {}).get(name, [])
    view = RecipeView(
        name=name,
        recipe=recipe,
        story=story,
        run=run,
        monitoring=monitoring,
        held=held,
        tiles=key_figures(held, run.value, story.value),
        service=service,
        past=past,
        coming=(known.next or {}).get(name, []),
        troubles=[],
    )
    view.troubles.extend(troubles(view, seen))
    return view


def key_figures(held: Mapping[str, Any] | None, run: LastRun | None, story: Story | None) -> list[dict[str, Any]]:
    """The champion's headline numbers beside their baselines; none where its metrics are not known."""
    metrics = held["metrics"] if held else None
    if metrics is None and run is not None and story is not None and run.summary.get("version") == story.champion:
        metrics = run.summary.get("metrics")
    found = state_files.part(lambda: tiles(metrics)) if metrics else Part([])
    return found.value or []


def troubles(view: RecipeView, seen: Seen) -> list[Trouble]:
    """What a person should look at, the gravest first."""
    name, found = view.name, []
    if view.recipe.fault:
        found.append(Trouble(f"The recipe cannot be read: {view.recipe.fault}", f"edit recipes/{name}.yaml"))
    if view.story.fault:
        found.append(Trouble(view.story.fault, f"ae ledger verify {name}"))
    faults = (seen.faults.value or {}).get(name, []) if not view.story.fault else []
    found += [Trouble(f"The ledger does not hold: {fault}", f"ae ledger verify {name}") for fault in faults]
    found += [Trouble(told_alarm(signal), f"ae monitor {name}") for signal in view.alarms]
    waiting = view.story.value.waiting if view.story.value else []
    found += [
        Trouble(
            f"Version {line.version} waits for approval, asked by {line.who}.",
            f"ae approve {name} {line.version} --by NAME --why TEXT",
        )
        for line in waiting
        if still_waits(view.held, line.version)
    ]
    if view.service is not None and view.service.state != "up":
        how = "is down" if view.service.state == "down" else "does not answer"
        found.append(Trouble(f"The scoring service {how}.", f"ae serve {name}"))
    elif view.service is not None and view.champion and view.service.version not in (None, view.champion):
        found.append(
            Trouble(f"The service serves version {view.service.version}, and the champion is {view.champion}.", "ae status")
        )
    for run in view.failed:
        told = f"The run {run['name']} ended as {run['state'].lower()}: {run['message'] or 'no message'}"
        found.append(Trouble(told, f"ae run {name}" if run["name"].startswith(TRAINS) else ""))
    found += [Trouble(part.fault) for part in (view.run, view.monitoring) if part.fault]
    return found


def told_alarm(signal: Mapping[str, Any]) -> str:
    return f"Alarm: {str(signal.get('name', 'a signal')).replace('_', ' ')}: {signal.get('says', '')}".rstrip(": ")


def still_waits(held: Mapping[str, Any] | None, version: str) -> bool:
    """What the version's tags say, where they are known: a later run may have withdrawn the question."""
    tags = next((one["tags"] for one in held["versions"] if one["version"] == version), None) if held else None
    return tags is None or tags.get("approval", "waiting") == "waiting"


# ---------------------------------------------------------------- pages


def overview(project: Project, names: list[str], seen: Seen) -> dict[str, Any]:
    views = [recipe_view(project, name, seen) for name in names]
    return {
        "project": project,
        "seen": seen,
        "cards": [view for view in views if view.has_version],
        "others": [view for view in views if not view.has_version],
        "now": datetime.now(UTC),
    }


def recipe_page(project: Project, name: str, seen: Seen) -> dict[str, Any]:
    view = recipe_view(project, name, seen)
    dataset = view.recipe.value.data.dataset if view.recipe.value else name
    return {
        "project": project,
        "seen": seen,
        "view": view,
        "now": datetime.now(UTC),
        "dataset": dataset,
        "validation": state_files.part(lambda: state_files.validation(project, dataset)),
        "quarantine": state_files.part(lambda: state_files.quarantine(project, dataset)),
        "has_data_docs": (project.data_docs / dataset / "index.html").is_file(),
        "batch": state_files.batch(project, name),
        "reported": state_files.reported(project, name),
        "verified": (seen.faults.value or {}).get(name),
        "deployments": (seen.plans.value.deployments or {}).get(name, []) if seen.plans.value else [],
        "form": sample_form(view.recipe.value),
    }


def sample_form(recipe: Recipe | None) -> PageForm | None:
    """The form of the try-it box; None where the recipe cannot be read."""
    if recipe is None:
        return None
    return load_kind(recipe.fit.input.kind).page_form(recipe.fit.input)


# ---------------------------------------------------------------- words


def ago(moment: datetime, now: datetime) -> str:
    """How long ago, or in how long, in one unit."""
    seconds = (now - moment).total_seconds()
    size, word = next(((size, word) for size, word in ((86400, "d"), (3600, "h"), (60, "min")) if abs(seconds) >= size), (1, "s"))
    count = f"{abs(seconds) // size:.0f} {word}"
    return f"in {count}" if seconds < 0 else f"{count} ago"


def moment(given: datetime | str) -> datetime | None:
    """A time as Prefect or MLflow writes it, in UTC; None where it is none."""
    if isinstance(given, datetime):
        return given.astimezone(UTC)
    try:
        return datetime.fromisoformat(given).astimezone(UTC)
    except ValueError:
        return None
