"""The template contexts of the pages: the state folder's files, joined with the state of MLflow, services and Prefect."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ae_models.names import names_not_in
from aeops.drawing.words import format_odds
from aeops.kinds.interface import load_kind
from aeops.kinds.results import PageForm
from aeops.page import state_files
from aeops.page.background_query import IDLE_SECONDS, QueryResult
from aeops.page.registry_snapshot import RecipeEntry, RegistrySnapshot, VersionEntry
from aeops.page.stack_status import (
    SCORING_PREFIX,
    PrefectDeployment,
    PrefectPlans,
    PrefectRun,
    ServiceStatus,
)
from aeops.page.state_files import JsonObject, LastRun, LedgerState, PagePart
from aeops.project import Project
from aeops.recipe.monitoring import TEST_SIGNALS
from aeops.recipe.reader import Recipe
from aeops.registry.acknowledgement import describe_closing, find_acknowledgement, find_closing, is_closed
from aeops.registry.ledger import LedgerEntry
from aeops.report.report_page import metric_tiles

STATE_HEALTHY, STATE_ATTENTION, STATE_NO_CHAMPION = "healthy", "attention", "no-champion"  # states of a recipe
SMALLEST_ODDS = 1e-12
TAKEOVER_TIME = timedelta(minutes=1)  # to fetch, verify and load a new champion, beside its time in the shadow
TIME_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True)
class StackState:
    """The last results of everything that is not a file here; each may still be missing.

    Attributes:
        ledger_problems: recipe -> the problems that `ae ledger verify` finds.
    """

    registry: QueryResult[RegistrySnapshot]
    ledger_problems: QueryResult[dict[str, list[str]]]
    services: QueryResult[dict[str, ServiceStatus]]
    plans: QueryResult[PrefectPlans]

    @property
    def is_complete(self) -> bool:
        """Whether each result is there and as new as those of a page that is being read: nothing is asked while nobody reads."""
        oldest = datetime.now(UTC) - timedelta(seconds=IDLE_SECONDS)
        results: tuple[QueryResult[Any], ...] = (self.registry, self.services, self.plans)
        for result in results:
            if not result.error and (result.answered_at is None or result.answered_at < oldest):
                return False
        return self.ledger_problems.answered_at is not None or bool(self.ledger_problems.error)

    def service(self, name: str) -> ServiceStatus | None:
        return (self.services.value or {}).get(name)

    def registry_entry(self, recipe: str) -> RecipeEntry | None:
        """Return the registry's entry of a recipe; None where it is not known or nothing was registered."""
        if self.registry.value is None:
            return None
        return self.registry.value["recipes"].get(recipe)

    @property
    def prefect(self) -> PrefectPlans:
        """Prefect's last answer; empty without one."""
        return self.plans.value or PrefectPlans()

    @property
    def neighbours(self) -> list[ServiceStatus]:
        """Services of the stack that belong to no recipe, without this page."""
        neighbours = []
        for name, service in (self.services.value or {}).items():
            if name != "page" and not name.startswith(SCORING_PREFIX):
                neighbours.append(service)
        return neighbours

    @property
    def mlflow_page(self) -> str:
        """Address of MLflow's pages; empty where they are not up."""
        if self.registry.value is not None:
            address = self.registry.value.get("address", "")
            if address.startswith(("http://", "https://")):
                return address.rstrip("/")
        service = self.service("mlflow")
        if service is None or service.state != "up":
            return ""
        return service.address.rstrip("/")


@dataclass(frozen=True)
class RecipeProblem:
    """Something that a person should look at; `command` is what to type, empty where nothing helps."""

    message: str
    command: str = ""


@dataclass(frozen=True)
class RecipeView:
    """Everything that a card or a page shows of a recipe.

    Attributes:
        registry_entry: None where it is not known, or nothing was registered.
        tiles: the champion's metrics, as in the report.
        past_runs: Prefect's, newest first.
        scheduled_runs: Prefect's, soonest first.
    """

    name: str
    recipe: PagePart[Recipe]
    ledger: PagePart[LedgerState]
    last_run: PagePart[LastRun]
    monitoring: PagePart[JsonObject]
    registry_entry: RecipeEntry | None
    tiles: list[JsonObject]
    service: ServiceStatus | None
    past_runs: list[PrefectRun]
    scheduled_runs: list[PrefectRun]
    problems: list[RecipeProblem] = field(default_factory=list)

    @property
    def champion(self) -> str | None:
        if self.ledger.value is None:
            return None
        return self.ledger.value.champion

    @property
    def shown_version(self) -> VersionEntry | None:
        """The champion's entry, else that of the newest version: whose verdict stands at the top. None where none is known."""
        versions = self.registry_entry["versions"] if self.registry_entry is not None else []
        for entry in versions:
            if entry["version"] == self.champion:
                return entry
        return next(iter(versions), None)

    @property
    def has_version(self) -> bool:
        if self.registry_entry is not None and self.registry_entry["versions"]:
            return True
        return self.ledger.value is not None and bool(self.ledger.value.entries)

    @property
    def state(self) -> str:
        if self.problems:
            return STATE_ATTENTION
        if self.champion:
            return STATE_HEALTHY
        return STATE_NO_CHAMPION

    @property
    def last_training(self) -> PrefectRun | None:
        """Prefect's last training run, else the last run of any kind, else None."""
        for run in self.past_runs:
            if run.is_training:
                return run
        return next(iter(self.past_runs), None)

    @property
    def next_runs(self) -> list[PrefectRun]:
        """Next run of each kind, the soonest first."""
        return first_of_each_kind(self.scheduled_runs)

    @property
    def failed_runs(self) -> list[PrefectRun]:
        """Last run of each kind, where that failed."""
        return [run for run in first_of_each_kind(self.past_runs) if run.has_failed]

    @property
    def alarms(self) -> list[JsonObject]:
        """Those of the present champion; the last check may have been of a former one."""
        if self.monitoring.value is None:
            return []
        if self.ledger.value is not None and is_closed(self.ledger.value.entries, self.monitoring.value.get("version")):
            return []
        return list(self.monitoring.value["alarms"])

    @property
    def closing(self) -> str:
        """What closed the alarms of the last check, as that was of a former champion; empty where none was closed."""
        return describe_closed_alarms(self.monitoring.value, self.ledger.value)

    @property
    def seen(self) -> LedgerEntry | None:
        """The entry by which a person has seen all alarms; None where nobody has, or there is none."""
        if not self.alarms or self.ledger.value is None:
            return None
        return find_acknowledgement(self.ledger.value.entries, [str(alarm.get("name")) for alarm in self.alarms])

    @property
    def has_too_few_samples(self) -> bool:
        """Whether no test of the last check had samples enough to say that nothing has changed."""
        if self.monitoring.value is None:
            return False
        tests = [signal for signal in self.monitoring.value["signals"] if signal.get("name") in TEST_SIGNALS]
        return bool(tests) and not any(signal.get("verdict") in ("quiet", "alarm") for signal in tests)


def describe_closed_alarms(monitoring: JsonObject | None, ledger: LedgerState | None) -> str:
    """Return what closed the alarms of a check, as that was of a former champion; empty where none was closed.

    Args:
        monitoring: of `state_files.read_monitoring`.
    """
    if monitoring is None or ledger is None or not monitoring["alarms"]:
        return ""
    entry = find_closing(ledger.entries, monitoring.get("version"))
    if entry is None:
        return ""
    return describe_closing(entry)


def read_closed_alarms(project: Project, name: str) -> str:
    """Return `describe_closed_alarms` of a recipe's files; empty where one of them cannot be read."""
    monitoring = state_files.read_part(lambda: state_files.read_monitoring(project, name))
    ledger = state_files.read_part(lambda: state_files.read_ledger(project, name))
    return describe_closed_alarms(monitoring.value, ledger.value)


def first_of_each_kind(runs: list[PrefectRun]) -> list[PrefectRun]:
    """Return the first run of each kind, in the order of `runs`."""
    first_runs: dict[str, PrefectRun] = {}
    for run in runs:
        first_runs.setdefault(run.kind, run)
    return list(first_runs.values())


def build_recipe_view(project: Project, name: str, stack: StackState) -> RecipeView:
    """Read a recipe's files and join them with what is known of the stack."""
    ledger = state_files.read_part(lambda: state_files.read_ledger(project, name))
    last_run = state_files.read_part(lambda: state_files.read_last_run(project, name))
    registry_entry = stack.registry_entry(name)
    view = RecipeView(
        name=name,
        recipe=state_files.read_part(lambda: state_files.cached_recipe(project, name)),
        ledger=ledger,
        last_run=last_run,
        monitoring=state_files.read_part(lambda: state_files.read_monitoring(project, name)),
        registry_entry=registry_entry,
        tiles=build_tiles(find_champion_metrics(registry_entry, last_run.value, ledger.value)),
        service=stack.service(f"{SCORING_PREFIX}{name}"),
        past_runs=stack.prefect.past_runs.get(name, []),
        scheduled_runs=stack.prefect.next_runs.get(name, []),
    )
    view.problems.extend(collect_problems(view, stack))
    return view


def find_champion_metrics(
    registry_entry: RecipeEntry | None, last_run: LastRun | None, ledger: LedgerState | None
) -> JsonObject | None:
    """Return the champion's metrics from the registry, else from the last run where that made the champion, else None."""
    if registry_entry is not None and registry_entry["metrics"] is not None:
        return registry_entry["metrics"]
    if last_run is None or ledger is None or last_run.summary.get("version") != ledger.champion:
        return None
    return last_run.summary.get("metrics")


def build_tiles(metrics: JsonObject | None) -> list[JsonObject]:
    """Return the key figures beside their baselines; empty where the metrics are missing or of another form."""
    if not metrics:
        return []
    return state_files.read_part(lambda: metric_tiles(metrics)).value or []


# ---------------------------------------------------------------- problems


def collect_problems(view: RecipeView, stack: StackState) -> list[RecipeProblem]:
    """Return everything that a person should look at, the most severe first."""
    problems = [
        *recipe_problems(view),
        *ledger_problems(view, stack),
        *alarm_problems(view),
        *pending_approvals(view),
        *service_problems(view),
        *run_problems(view),
    ]
    for part in (view.last_run, view.monitoring):
        if part.error:
            problems.append(RecipeProblem(part.error))
    return problems


def recipe_problems(view: RecipeView) -> list[RecipeProblem]:
    if not view.recipe.error:
        return []
    return [RecipeProblem(f"The recipe cannot be read: {view.recipe.error}", f"edit recipes/{view.name}.yaml")]


def ledger_problems(view: RecipeView, stack: StackState) -> list[RecipeProblem]:
    command = f"ae ledger verify {view.name}"
    if view.ledger.error:
        return [RecipeProblem(view.ledger.error, command)]
    messages = (stack.ledger_problems.value or {}).get(view.name, [])
    return [RecipeProblem(f"The ledger is not valid: {message}", command) for message in messages]


def alarm_problems(view: RecipeView) -> list[RecipeProblem]:
    if view.seen:
        return []
    problems = []
    for signal in view.alarms:
        name = str(signal.get("name", "a signal")).replace("_", " ")
        message = f"Alarm: {name}: {signal.get('says', '')}".rstrip(": ")
        problems.append(RecipeProblem(message, f"ae alarm ack {view.name} --why TEXT"))
    return problems


def pending_approvals(view: RecipeView) -> list[RecipeProblem]:
    if view.ledger.value is None:
        return []
    problems = []
    for request in view.ledger.value.pending_requests:
        if is_still_pending(view.registry_entry, request.version):
            message = f"Version {request.version} waits for approval, requested by {request.who}."
            command = f"ae approve {view.name} {request.version} --by NAME --why TEXT"
            problems.append(RecipeProblem(message, command))
    return problems


def is_still_pending(registry_entry: RecipeEntry | None, version: str) -> bool:
    """Return whether a request is still open by the version's tags, where known: a later run may have withdrawn it."""
    if registry_entry is None:
        return True
    for entry in registry_entry["versions"]:
        if entry["version"] == version:
            return entry["tags"].get("approval", "waiting") == "waiting"
    return True


def service_problems(view: RecipeView) -> list[RecipeProblem]:
    if view.service is None:
        return []
    if view.service.state == "down":
        return [RecipeProblem("The scoring service is down.", f"ae serve {view.name}")]
    if view.service.state != "up":
        return [RecipeProblem("The scoring service does not answer.", f"ae serve {view.name}")]
    if view.champion and view.service.version not in (None, view.champion) and not is_taking_over(view, datetime.now(UTC)):
        message = f"The service serves version {view.service.version}, and the champion is {view.champion}."
        return [RecipeProblem(message, "ae status")]
    return []


def is_taking_over(view: RecipeView, now: datetime) -> bool:
    """Return whether the champion is so new that its service may still try it beside the version before."""
    if view.ledger.value is None or view.ledger.value.last_move is None or view.recipe.value is None:
        return False
    trial = timedelta(seconds=view.recipe.value.serving.shadow_seconds) + TAKEOVER_TIME
    return now - view.ledger.value.last_move.timestamp < trial


def run_problems(view: RecipeView) -> list[RecipeProblem]:
    problems = []
    for run in view.failed_runs:
        message = f"The run {run.name} ended as {run.state.lower()}: {run.message or 'no message'}"
        command = ""
        if run.is_training:
            command = f"ae run {view.name}"
        problems.append(RecipeProblem(message, command))
    return problems


# ---------------------------------------------------------------- contexts


def overview_context(project: Project, names: list[str], stack: StackState) -> dict[str, Any]:
    """Return the variables of overview.html.j2."""
    views_with_version, other_views = [], []
    for name in names:
        view = build_recipe_view(project, name, stack)
        if view.has_version:
            views_with_version.append(view)
        else:
            other_views.append(view)
    return {
        "project": project,
        "stack": stack,
        "cards": views_with_version,
        "others": other_views,
        "now": datetime.now(UTC),
    }


def recipe_context(project: Project, name: str, stack: StackState) -> dict[str, Any]:
    """Return the variables of recipe.html.j2."""
    view = build_recipe_view(project, name, stack)
    dataset, alarms_name = name, "false alarms"
    if view.recipe.value:
        dataset = view.recipe.value.data.dataset
        alarms_name = "false alarms" if view.recipe.value.data.labels else "flagged"
    deployments: list[PrefectDeployment] = stack.prefect.deployments.get(name, [])
    return {
        "project": project,
        "stack": stack,
        "view": view,
        "now": datetime.now(UTC),
        "dataset": dataset,
        "alarms_name": alarms_name,
        "validation": state_files.read_part(lambda: state_files.read_validation(project, dataset)),
        "quarantine": state_files.read_part(lambda: state_files.read_quarantine(project, dataset)),
        "has_data_docs": (project.data_docs / dataset / "index.html").is_file(),
        "last_batch_time": state_files.find_modified_at(project.home / "scoring" / name / "latest.html"),
        "last_report_time": state_files.find_modified_at(project.reports(name) / "report.html"),
        "ledger_problems": (stack.ledger_problems.value or {}).get(name),
        "deployments": deployments,
        "form": build_form(view.recipe.value),
    }


@dataclass(frozen=True)
class WrittenComparison:
    """A page that `ae compare` has written."""

    recipe: str
    first: str
    second: str
    written_at: datetime


def find_comparisons(project: Project, names: list[str]) -> list[WrittenComparison]:
    """Return the comparisons of versions that lie in the state folder, the newest first."""
    comparisons = []
    for name in names:
        for file in (project.home / "compare" / name).glob("*-*.html"):
            first, _, second = file.stem.partition("-")
            comparisons.append(WrittenComparison(name, first, second, state_files.modified_at(file)))
    return sorted(comparisons, key=lambda one: one.written_at, reverse=True)


def compare_context(project: Project, names: list[str], stack: StackState, query: Mapping[str, str]) -> dict[str, Any]:
    """Return the variables of compare.html.j2.

    Args:
        project: its state folder holds the comparisons.
        names: of all recipes.
        stack: the versions are its registry's.
        query: recipe, first and second of the form, each of which may be missing.
    """
    versions = {}
    for name in names:
        entry = stack.registry_entry(name)
        if entry is not None and len(entry["versions"]) > 1:
            versions[name] = [version["version"] for version in entry["versions"]]
    comparisons = find_comparisons(project, names)
    recipe = query.get("recipe") or next(iter(versions), "")
    newest = (versions.get(recipe) or ["", ""])[:2]
    chosen = (recipe, query.get("first") or newest[1], query.get("second") or newest[0])
    found = [one for one in comparisons if (one.recipe, one.first, one.second) == chosen]
    entry = stack.registry_entry(recipe)
    known_versions = [version["version"] for version in entry["versions"]] if entry is not None else []
    return {
        "project": project,
        "stack": stack,
        "now": datetime.now(UTC),
        "versions": versions,
        "comparisons": comparisons,
        "chosen": chosen,
        "is_asked": "first" in query,
        "missing": names_not_in(chosen[1:], known_versions) if known_versions else [],
        "written": found[0] if found else None,
    }


def build_form(recipe: Recipe | None) -> PageForm | None:
    """Return the form of the try-it box; None where the recipe cannot be read."""
    if recipe is None:
        return None
    return load_kind(recipe.fit.input.kind).page_form(recipe.fit.input)


# ---------------------------------------------------------------- filters


def relative_time(timestamp: datetime, now: datetime) -> str:
    """Return the distance between two times in one unit, such as `3 h ago` or `in 2 d`."""
    seconds = (now - timestamp).total_seconds()
    count = "0 s"
    for unit_seconds, unit in TIME_UNITS:
        if abs(seconds) >= unit_seconds:
            count = f"{abs(seconds) // unit_seconds:.0f} {unit}"
            break
    if seconds < 0:
        return f"in {count}"
    return f"{count} ago"


def odds_text(value: float) -> str:
    """Return evidence as odds, such as `812 to 1`."""
    return format_odds(math.log10(max(value, SMALLEST_ODDS)))


def parse_timestamp(value: datetime | str) -> datetime | None:
    """Return a time as Prefect or MLflow writes it, in UTC; None where it is none."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except ValueError:
        return None
