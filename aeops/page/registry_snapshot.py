"""The answer of the page's registry process to `snapshot`, as JSON holds it."""

from typing import Any, NotRequired, TypedDict


class VersionEntry(TypedDict):
    """A registered version; `created_at` is ISO, UTC, and `run_page` the part of MLflow's address after the host.

    `sentence` is the verdict as its card begins with it, empty where its description is no card.
    """

    version: str
    aliases: list[str]
    tags: dict[str, str]
    created_at: str
    metrics: dict[str, float]
    run_page: str
    sentence: str


class RecipeEntry(TypedDict):
    """A recipe's versions.

    Attributes:
        count: of all versions; `versions` has the newest and those with an alias.
        metrics: metrics.json of the champion's run; None without one.
        page: the part of MLflow's address after the host.
    """

    count: int
    versions: list[VersionEntry]
    metrics: dict[str, Any] | None
    page: str


class RegistrySnapshot(TypedDict):
    """Every recipe of the project; `address` is MLflow's, and missing where there is no database yet."""

    recipes: dict[str, RecipeEntry]
    address: NotRequired[str]
