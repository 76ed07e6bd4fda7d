"""What columns of a table are for: ids, labels, groups, times, what is left out, and the columns that are left to learn from."""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ae_models.names import index_by_name, names_not_in
from ae_models.spec import CATEGORY, DATE, INTEGER, NUMBER, join_names
from aeops.drawing.words import format_count
from aeops.errors import UsageError
from aeops.intake.column_profile import MOST_CATEGORIES, ColumnProfile
from aeops.intake.proposal import ANOMALY_NAMES, NORMAL_NAMES, Choices, Understanding, names_among

ID_NAMES = ("id", "uuid", "guid", "key", "index", "rowid", "row_id", "record", "serial", "no", "nr", "unnamed: 0", "")
LABEL_NAMES = (
    "label",
    "labels",
    "class",
    "target",
    "y",
    "anomaly",
    "is_anomaly",
    "outlier",
    "fraud",
    "is_fraud",
    "defect",
    "fault",
)
GROUP_NAMES = (
    "group",
    "machine",
    "device",
    "client",
    "customer",
    "patient",
    "subject",
    "session",
    "user",
    "unit",
    "batch",
    "lot",
)
MOST_LABELS = 20
MOST_MACHINES = 1000
NO_LABELS = "none"


@dataclass
class ColumnRoles:
    """The roles of columns.

    Attributes:
        identity, labels, group: names, or None.
        group_hint: a column that may name what rows belong to, where no group was chosen.
        label_counts: label -> rows.
        time: a column of dates by which rows are ordered, or None.
        time_note: steps back and repeats of that column, in words; empty without any.
        kept: columns to learn from, in order.
        left_out: column -> why.
    """

    identity: str | None = None
    labels: str | None = None
    group: str | None = None
    group_hint: str | None = None
    label_counts: dict[str, int] = field(default_factory=dict)
    time: str | None = None
    time_note: str = ""
    kept: list[ColumnProfile] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def time_columns(self) -> tuple[str, ...]:
        """The columns whose values order the rows: none, one, or that of the date and that of the time of day."""
        profile = self.time_profile
        if profile is None:
            return ()
        return (profile.name,) if profile.time_of_day is None else (profile.name, profile.time_of_day)

    @property
    def time_profile(self) -> ColumnProfile | None:
        """The profile of the column that orders the rows; None without one."""
        return index_by_name(self.kept).get(self.time) if self.time is not None else None

    def describe_left_out(self, used: Collection[str | None] = ()) -> list[str]:
        """Return a line for each column that is left out, except for those that are used after all."""
        return [f"{name} is left out: {reason}" for name, reason in self.left_out.items() if name not in used]


def find_roles(profiles: Sequence[ColumnProfile], count: int, choices: Choices, understood: Understanding) -> ColumnRoles:
    """Return the roles of the columns of a table of `count` rows.

    Raises:
        UsageError: an option names a column that there is not, or a column of labels with too many.
    """
    by_name = index_by_name(profiles)
    for option, name in (("--labels", choices.labels), ("--id", choices.identity), ("--group", choices.group)):
        if name not in (None, NO_LABELS) and name not in by_name:
            raise UsageError(f"{option} {name}: expected a column out of {join_names(list(by_name))}")
    unknown = names_not_in(choices.ignore, by_name)
    if unknown:
        raise UsageError(f"--ignore {join_names(unknown)}: expected columns out of {join_names(list(by_name))}")
    roles = ColumnRoles(group=choices.group, left_out=dict.fromkeys(choices.ignore, "as you asked"))
    roles.labels = _label_column(profiles, choices)
    if roles.labels is not None:
        roles.label_counts = dict(sorted(Counter(_label_texts(by_name[roles.labels])).items()))
        roles.label_counts.pop("", None)
        if len(roles.label_counts) > MOST_LABELS:
            raise UsageError(f"--labels {roles.labels}: expected at most {MOST_LABELS} labels, got {len(roles.label_counts):,}")
    elif choices.labels is None:
        _hint_at_labels(profiles, understood)
    roles.identity = choices.identity or _id_column(profiles, count, roles)
    own = {roles.identity, roles.labels, roles.group}
    for profile in profiles:
        if profile.name in own or profile.name in roles.left_out:
            continue
        if reason := _reason_to_leave(profile, count):
            roles.left_out[profile.name] = reason
        else:
            roles.kept.append(profile)
    _find_leaks(roles, by_name)
    roles.time, roles.time_note = _time_column(roles.kept)
    if roles.group is None:
        roles.group_hint = _group_hint(roles.kept, count)
    return roles


def _hint_at_labels(profiles: Sequence[ColumnProfile], understood: Understanding) -> None:
    """Name a column with a value such as normal among others: it may be the label, or a measurement of a few levels."""
    for profile in profiles:
        if profile.type != CATEGORY or profile.distinct > MOST_LABELS:
            continue
        found = names_among(sorted(set(profile.values)), NORMAL_NAMES)
        if found:
            understood.oddities.append(
                f"{profile.name} has the value {found[0]} among others: if it says what is normal, --labels {profile.name}"
            )


def _group_hint(kept: Sequence[ColumnProfile], count: int) -> str | None:
    """Return the first column that names what rows belong to, at least five to each on average; None without one."""
    for profile in kept:
        if is_group_name(profile.name) and 1 < profile.distinct < count / 5:
            return profile.name
    return None


def _label_texts(profile: ColumnProfile) -> list[str]:
    """Return the cells of a column of labels as the source reads them."""
    texts = []
    for value in profile.values:
        if isinstance(value, str):
            texts.append("" if value in profile.nulls else value.strip())
        else:
            texts.append("" if value != value else str(int(value)) if float(value).is_integer() else str(value))
    return texts


def _label_column(profiles: Sequence[ColumnProfile], choices: Choices) -> str | None:
    if choices.labels == NO_LABELS:
        return None
    if choices.labels is not None:
        return choices.labels
    for wanted in LABEL_NAMES:
        for profile in profiles:
            is_label = profile.name.lower() == wanted and 1 < profile.distinct <= MOST_LABELS
            if is_label and profile.type in (CATEGORY, INTEGER, "boolean"):
                return profile.name
    for profile in profiles:
        if _names_states(profile):
            return profile.name
    return None


def _names_states(profile: ColumnProfile) -> bool:
    """Return whether the values of a column name normal and other states: known words alone, or normal and one other."""
    if profile.type != CATEGORY or not 1 < profile.distinct <= MOST_LABELS:
        return False
    values = set(map(str.lower, profile.values)) - {""}
    if values <= {*NORMAL_NAMES, *ANOMALY_NAMES}:
        return True
    return len(values) == 2 and not values.isdisjoint(NORMAL_NAMES)


def _id_column(profiles: Sequence[ColumnProfile], count: int, roles: ColumnRoles) -> str | None:
    """Return the column by whose values rows are called: one that is named so, whose values are there and all differ."""
    profiles = [profile for profile in profiles if profile.name not in roles.left_out]  # by --ignore
    for profile in profiles:
        name = profile.name.lower()
        named = name in ID_NAMES or name.endswith(("_id", " id", "-id")) or profile.name.endswith(("Id", "ID"))
        unique = profile.distinct >= 0.98 * count and profile.missing < 0.02
        if named and unique and profile.type in (INTEGER, CATEGORY, "") and profile.name not in (roles.labels, roles.group):
            return profile.name
    names = []
    for profile in profiles:
        is_distinct = profile.type == CATEGORY and profile.distinct >= 0.98 * count and not profile.missing
        if is_distinct and not profile.unit and profile.name != roles.labels:
            names.append(profile.name)
    return names[0] if len(names) == 1 else None


def _reason_to_leave(profile: ColumnProfile, count: int) -> str:
    """Return why nothing can be learnt from a column; empty where something can."""
    if not profile.name.strip() or not profile.name.isprintable() or len(profile.name) > 200:
        return "its name cannot stand in a recipe"
    if profile.is_constant:
        return "it is constant" if profile.distinct else "it has no values"
    if not profile.type:
        return f"it holds {profile.description}: texts of their own"
    if profile.unit:
        return f"its cells are numbers with the unit {profile.unit}: write the numbers alone to use it"
    if profile.type == CATEGORY and (profile.distinct > MOST_CATEGORIES or profile.distinct > 0.5 * count):
        return f"it has {profile.distinct:,} different values in {count:,} rows: a name of each row, not a category"
    if profile.missing > 0.95:
        return f"{profile.missing:.0%} of it is missing"
    is_counter = profile.type == INTEGER and profile.distinct == count and _is_sequence(profile)
    return "it counts the rows" if is_counter else ""


def _is_sequence(profile: ColumnProfile) -> bool:
    steps = {round(float(after) - float(before)) for before, after in pairwise(profile.values)}
    return steps == {1}


def _find_leaks(roles: ColumnRoles, by_name: dict[str, ColumnProfile]) -> None:
    """Leave out columns of few values that name the label: each value stands with one label alone."""
    if roles.labels is None or len(roles.label_counts) < 2:
        return
    labels = _label_texts(by_name[roles.labels])
    for profile in list(roles.kept):
        if profile.type not in (CATEGORY, INTEGER, "boolean") or not 2 <= profile.distinct <= 4 * MOST_LABELS:
            continue
        found: dict[str, set[str]] = defaultdict(set)
        for value, label in zip(profile.values, labels, strict=True):
            if label:
                found[str(value)].add(label)
        if len(found) >= 2 and set(map(len, found.values())) == {1} and len(set.union(*found.values())) > 1:
            roles.kept.remove(profile)
            roles.left_out[profile.name] = f"each of its values stands with one {roles.labels} alone: it gives the label away"


def is_group_name(name: str) -> bool:
    """Return whether a column is named as what rows belong to.

    >>> is_group_name("Machine"), is_group_name("device_id"), is_group_name("speed")
    (True, True, False)
    """
    return name.lower().removesuffix("_id").removesuffix(" id") in GROUP_NAMES


def machine_column(kept: Sequence[ColumnProfile]) -> str | None:
    """Return the first column that can name machines whose readings come together; None without one."""
    for profile in kept:
        if is_group_name(profile.name) and 1 < profile.distinct <= MOST_MACHINES:
            return profile.name
    return None


def number_columns(kept: Sequence[ColumnProfile], but: Sequence[str | None]) -> tuple[str, ...]:
    """Return the names of the columns of numbers, except for some."""
    names = []
    for profile in kept:
        if profile.type in (NUMBER, INTEGER) and profile.name not in but:
            names.append(profile.name)
    return tuple(names)


def _time_column(kept: Sequence[ColumnProfile]) -> tuple[str | None, str]:
    """Return the column of dates that rows are ordered by, and its steps back and repeats in words; None without one."""
    for profile in kept:
        if profile.type != DATE:
            continue
        times = list(filter(None, profile.values))
        ordered = sum(after >= before for before, after in pairwise(times))
        if len(times) > 20 and ordered >= 0.9 * (len(times) - 1):
            backwards = len(times) - 1 - ordered
            repeats = len(times) - len(set(times))
            notes = [format_count(backwards, "step") + " back" if backwards else "", f"{repeats:,} repeated" if repeats else ""]
            return profile.name, ", ".join(filter(None, notes))
    return None, ""
