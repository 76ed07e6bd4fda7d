"""A table in files: what is in it, and the recipe that is proposed for it."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ae_models.names import names_not_in
from ae_models.spec import CATEGORY, INTEGER, NUMBER, join_names
from aeops.data.sources.files import links_beside
from aeops.data.sources.table_columns import TableColumns
from aeops.data.sources.table_files import list_table_files, read_table_files
from aeops.data.sources.table_text import plain_numbers, unpack
from aeops.drawing.words import format_count
from aeops.errors import DataError, UsageError
from aeops.intake.column_profile import ColumnProfile, profile_columns
from aeops.intake.column_roles import ColumnRoles, find_roles
from aeops.intake.common_sections import TRIM, data_section, gate_section, threshold_section
from aeops.intake.proposal import COLUMN_TITLE, Choices, Proposal, Understanding, source_path, split_labels
from aeops.intake.recipe_text import Entry, changed_values, list_entries
from aeops.intake.series import propose_series
from aeops.intake.series_search import find_series, refusal_reason
from aeops.intake.sizing import batch_for, count_anomalies, count_normal, epochs_for, split_sizes, threads_for
from aeops.intake.text_dialect import find_dialect
from aeops.intake.time_columns import join_time_columns
from aeops.intake.wording import format_counts, format_reasons
from aeops.kinds.decoding import DecodeError, decode_errors
from aeops.recipe.table_sources import TableSource, TextFormat, table_format

NAMED = 5  # columns that a line names
BANK_ROWS = 10_000  # training rows that the neighbours are searched among
FAR = 10  # lengths of a column's range beyond it, from which on a value is set aside
LARGEST_CODE = 16
ROWS_SEEN = 60_000  # that pass through a training, at most: the neighbours need none, and the network only some


def propose_table(path: Path, root: Path, dataset: str, choices: Choices) -> Proposal:
    """Look at a file of rows, or a folder of them, and propose a recipe.

    Args:
        path: the file or folder.
        root: of the project.
        dataset: its name in the recipe.
        choices: what the person said.

    Raises:
        DataError: it cannot be read, or has too few rows.
        UsageError: an option that does not fit.
    """
    understood = Understanding("table", source_path(path, root, choices), 0)
    files = list_table_files(path, str(path))
    if path.is_dir():
        understood.name_links(links_beside(files))
    source = draft_source(files, understood, choices)
    table = read_table_files(files, source)
    choices = _without_nested(table, path, choices)
    return propose_rows(table, source, understood, dataset, choices, len(files))


def _without_nested(table: TableColumns, path: Path, choices: Choices) -> Choices:
    """Return the choices without the columns of lists, which are left out by `--ignore` alone.

    Raises:
        DataError: there are others.
    """
    nested = names_not_in(table.nested, choices.ignore)
    if nested:
        shown = join_names(nested[:NAMED])
        option = ",".join(table.nested)
        raise DataError(
            f"{path.name}: the columns {shown} hold lists: leave them out by --ignore {shlex.quote(option)}, or write a column "
            "for each of their values"
        )
    return replace(choices, ignore=tuple(names_not_in(choices.ignore, table.nested)))


def draft_source(files: dict[str, Path], understood: Understanding, choices: Choices) -> TableSource:
    """Return how the files are to be read: dialect, sheet or table."""
    first = next(iter(files.values()))
    file_format = table_format(first.name)
    text = None
    if file_format == "text":
        try:
            with decode_errors():
                content = unpack(first)
        except DecodeError as error:
            raise DataError(f"{first}: cannot be unpacked ({error}): is it whole?") from error
        try:
            text, messages = find_dialect(content)
        except DataError as error:
            raise DataError(f"{first}: {error}") from error
        understood.oddities += messages
    table = choices.table
    if choices.address is not None:
        return TableSource(understood.source, text=text, table=table, query=choices.query)
    if file_format in ("workbook", "database") and table is None and choices.query is None:
        table = _chosen_table(first, str(file_format), understood)
    if file_format == "database" and choices.query is not None:
        table = None
    return TableSource(understood.source, text=text, table=table, query=choices.query)


def _chosen_table(path: Path, kind: str, understood: Understanding) -> str | None:
    """Return the sheet or table to take; several are named, and the first is taken.

    Raises:
        UsageError: there are several, and nothing distinguishes them.
    """
    from aeops.data.sources.table_database import database_tables
    from aeops.data.sources.table_workbook import sheet_names

    try:
        with decode_errors():
            names = sheet_names(path) if kind == "workbook" else database_tables(path)
    except DecodeError as error:
        raise DataError(f"{path}: no readable {kind} ({error}): is it whole, and what its name says?") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    if not names:
        raise DataError(f"{path}: it holds no {'sheet with cells' if kind == 'workbook' else 'table'}")
    if len(names) > 1:
        raise UsageError(
            f"{path} holds {', '.join(names)}: say which by --table NAME{' or --query SQL' if kind == 'database' else ''}"
        )
    understood.facts.append(("table", names[0]))
    return names[0]


def propose_rows(
    table: TableColumns, source: TableSource, understood: Understanding, dataset: str, choices: Choices, file_count: int
) -> Proposal:
    """Propose a recipe for rows that were read: a series where they are readings in the order of time, else a table.

    Args:
        table: the rows.
        source: how they were read; labels, ids and so on are added.
        understood: what was understood so far.
        dataset: its name in the recipe.
        choices: what the person said.
        file_count: files that the rows came from.
    """
    as_number = None
    if table.from_text and source.text is not None and (source.text.decimal, source.text.thousands) != (".", ""):
        as_number = {name: plain_numbers(cells, source.text) for name, cells in table.columns.items()}
    chosen = set(filter(None, (choices.labels, choices.identity, choices.group, *choices.ignore)))
    profiles = join_time_columns(profile_columns(table.columns, table.from_text, as_number), table.columns, chosen)
    understood.count = len(table)
    roles = find_roles(profiles, len(table), choices, understood)
    if roles.time is not None and choices.readings is not False:
        found, reason = None, ""
        try:
            found = find_series(table.columns, (source.text or TextFormat()) if table.from_text else None, roles, choices)
        except DataError as error:
            reason = str(error)
        reason = reason or refusal_reason(found, source, file_count)
        if found is not None and not reason:
            return propose_series(found, understood, roles, dataset, choices)
        if choices.readings:
            raise DataError(f"{understood.source}: {reason}")
        notes = f" ({roles.time_note})" if roles.time_note else ""
        understood.oddities.append(
            f"{roles.time} orders the rows in time{notes}: they may be a series. They are proposed as a table, in which each row "
            f"stands alone; the time itself is left out. {reason[0].upper()}{reason[1:]}"
        )
    elif choices.readings:
        raise DataError(f"{understood.source}: expected a column of dates in whose order the rows are, as of a series, got none")
    if roles.time is not None:
        for name in roles.time_columns:
            roles.left_out[name] = "it orders the rows"
        roles.kept = [profile for profile in roles.kept if profile.name != roles.time]
    if not roles.kept:
        reasons = format_reasons(roles.left_out, NAMED)
        advice = _advise_texts(profiles, roles.left_out)
        raise DataError(f"{understood.source}: no column is left to learn from: {reasons}{advice}")
    anomalies = split_labels(list(roles.label_counts), choices, understood) if len(roles.label_counts) > 1 else ()
    _describe(understood, table, profiles, roles, file_count)
    return _recipe(understood, table, source, roles, anomalies, dataset)


# ---------------------------------------------------------------- what was understood


def _advise_texts(profiles: Sequence[ColumnProfile], left_out: Mapping[str, str]) -> str:
    """Return the option that learns from a column of texts, where one was left out as it is no category; else nothing."""
    for profile in profiles:
        if profile.name in left_out and profile.distinct > 1 and not profile.type:
            return f"; to learn from these texts: --text {shlex.quote(profile.name)}"
    return ""


def _describe(
    understood: Understanding, table: TableColumns, profiles: Sequence[ColumnProfile], roles: ColumnRoles, file_count: int
) -> None:
    where = f" in {file_count:,} files" if file_count > 1 else ""
    understood.facts.insert(0, ("kind", f"table: {len(table):,} rows of {len(profiles):,} columns{where}, {understood.source}"))
    for profile in roles.kept:
        missing = f"; {profile.missing:.1%} missing" if profile.missing else ""
        understood.facts.append((COLUMN_TITLE, f"{profile.name} ({profile.type}): {profile.description}{missing}"))
    if roles.labels is not None:
        counts = format_counts(roles.label_counts.items())
        understood.facts.append(("labels", f"column {roles.labels}: {counts}"))
    for title, name in (("ids", roles.identity), ("groups", roles.group)):
        if name is not None:
            understood.facts.append((title, f"column {name}"))
    understood.oddities += roles.describe_left_out()
    for profile in profiles:
        repeated = round(len(table) * (1 - profile.missing)) - profile.distinct
        if profile.name == roles.identity and repeated:
            understood.oddities.append(
                f"{profile.name}: {format_count(repeated, 'row')} with the id of another: a later row replaces an "
                f"earlier one. If it is no id, --ignore {profile.name}"
            )
    if roles.group_hint is not None:
        understood.oddities.append(
            f"rows with one {roles.group_hint} may belong together: --group {roles.group_hint} keeps them on one side of a split"
        )
    for profile in roles.kept:
        if profile.nulls:
            shown = ", ".join(profile.nulls)
            understood.oddities.append(
                f"{profile.name}: {shown} read as missing; take it out of data.source.nulls if it is a value"
            )
        if profile.odd_count:
            shown = ", ".join(map(repr, profile.odd_cells))
            understood.oddities.append(f"{profile.name}: {profile.odd_count:,} cells are no {profile.type} ({shown}): set aside")
        if profile.ambiguous:
            understood.oddities.append(f"{profile.name}: {profile.ambiguous}")
    if table.set_aside:
        shown = format_reasons(table.set_aside, 3)
        understood.oddities.append(
            f"{format_count(len(table.set_aside), 'line')} that cannot be read as a row, to be set aside: {shown}"
        )


# ---------------------------------------------------------------- the recipe


def _recipe(
    understood: Understanding,
    table: TableColumns,
    source: TableSource,
    roles: ColumnRoles,
    anomalies: Sequence[str],
    dataset: str,
) -> Proposal:
    labels = list(roles.label_counts) if len(roles.label_counts) > 1 else []
    bad = len(table.set_aside) + max((profile.odd_count for profile in roles.kept), default=0)
    bad_share = bad / max(1, len(table) + len(table.set_aside))
    labelled = sum(roles.label_counts.values()) if labels else len(table)
    sizes = split_sizes(int(count_normal(labelled, roles.label_counts, anomalies) * (1 - bad_share)))
    missing_labels = (len(table) - labelled) / max(1, len(table))
    proposal = Proposal(understood, f"{understood.source}", f"Rows of {understood.source}.")
    proposal.entries = [
        data_section(dataset, _source_entries(source, roles, bool(labels)), labels, anomalies, sizes),
        _validate_section(len(table), bad_share + missing_labels),
        Entry(
            "input",
            [
                Entry("kind", "table"),
                Entry("columns", _column_entries(roles.kept), f"min and max are {FAR} lengths of a column's range beyond it"),
            ],
        ),
        *_model_sections(roles.kept, sizes.train),
        threshold_section(sizes),
        _train_section(roles.kept, sizes.train),
        Entry(
            "evaluate",
            [
                Entry("pca_components", _component_count(roles.kept), "baselines, measured beside the model"),
                Entry("neighbours", 5),
            ],
        ),
        gate_section(count_anomalies(roles.label_counts, anomalies)),
    ]
    return proposal


def _source_entries(source: TableSource, roles: ColumnRoles, has_labels: bool) -> list[Entry]:
    entries = [Entry("kind", "table"), Entry("path", source.path)]
    if source.table is not None:
        entries.append(Entry("table", source.table))
    if source.query is not None:
        entries.append(Entry("query", source.query))
    if source.text is not None:
        entries.append(Entry("text", changed_values(source.text), "dialect of the file, as it was found"))
    if has_labels and roles.labels is not None:
        entries.append(Entry("labels", roles.labels))
    if roles.identity is not None:
        entries.append(
            Entry("id", roles.identity, "each row keeps this id wherever it is shown; one that came before is set aside")
        )
    if roles.group is not None:
        entries.append(Entry("group", roles.group, "rows with one value of it share a split"))
    nulls, dates = {}, {}
    for profile in roles.kept:
        if profile.nulls:
            nulls[profile.name] = list(profile.nulls)
        if profile.date_format:
            dates[profile.name] = profile.date_format
    if nulls:
        reason = "cells that are taken for missing values; take out what is a value"
        entries.append(Entry("nulls", nulls, reason))
    if dates:
        entries.append(Entry("dates", dates, "formats of dates that are not ISO 8601"))
    return entries


def _column_entries(kept: Sequence[ColumnProfile]) -> list[Entry]:
    entries = []
    for profile in kept:
        value: dict[str, Any] = {"name": profile.name, "type": profile.type}
        if profile.has_missing:
            value["missing"] = True
        value |= _far_bounds(profile)
        missing = f"; {profile.missing:.1%} missing" if profile.missing else ""
        entries.append(Entry("", value, f"{profile.description}{missing}"))
    return entries


def _far_bounds(profile: ColumnProfile) -> dict[str, float]:
    """Return bounds so far out that what lies beyond is no measurement: a slip of the decimal mark, another column's value."""
    if profile.type not in (NUMBER, INTEGER) or profile.span is None:
        return {}
    low, high = profile.span
    room = FAR * (high - low)
    return {"min": float(f"{low - room:.3g}"), "max": float(f"{high + room:.3g}")}


def _validate_section(count: int, bad_share: float) -> Entry:
    budget = round(min(0.5, max(0.02, 2 * bad_share)), 3)
    return Entry(
        "validate",
        [
            Entry("rows", {"min": max(1, count // 2), "max": max(100_000, 20 * count)}, "half of what is there now is too few"),
            Entry("mean_drift", 0.5, "standard deviations by which a column's mean may move from the last accepted version"),
            Entry("quarantine_budget", budget, f"{bad_share:.1%} of the lines cannot be rows; more than this is refused"),
            Entry("duplicates", "accept", "equal rows are no dirt: they never lie on two sides of a split"),
        ],
        "what fails these bounds goes to quarantine with its reason",
    )


def _width(kept: Sequence[ColumnProfile]) -> int:
    """Return about how many numbers a network reads of a row: its values, and whether each that may be missing is there."""
    return _value_count(kept) + sum(profile.has_missing for profile in kept)


def _value_count(kept: Sequence[ColumnProfile]) -> int:
    """Return about how many numbers a network has to rebuild of a row: a category has one for each of its values."""
    count = 0
    for profile in kept:
        count += min(profile.distinct, 32) if profile.type == CATEGORY else 1
    return count


def _code_size(kept: Sequence[ColumnProfile]) -> int:
    return max(1, min(LARGEST_CODE, _value_count(kept) // 2))


def _component_count(kept: Sequence[ColumnProfile]) -> int:
    """Return the components of the PCA beside the model: as many as its code has, and no more than the table has columns."""
    return min(_code_size(kept), len(kept))


def _model_sections(kept: Sequence[ColumnProfile], train_count: int) -> list[Entry]:
    width, size, rows = _width(kept), _code_size(kept), min(BANK_ROWS, train_count)
    hidden = 64 if width <= 64 else 128
    neighbours = min(10, max(2, train_count // 10))
    scores = [
        {"kind": "knn", "neighbours": min(5, neighbours), "rows": rows, "coreset": "k-centre"},
        {"kind": "local-hull", "neighbours": neighbours, "ridge": 0.1, "rows": rows, "coreset": "k-centre"},
        {"kind": "normalised-residual", "energy": 0},
    ]
    return [
        Entry(
            "model",
            [
                Entry("corrupt", {"kind": "none"}),
                Entry("encode", {"kind": "table", "widths": [hidden]}, f"about {width} numbers a row"),
                Entry("bottleneck", {"kind": "identity", "size": size}, "half as many numbers as are rebuilt, and 16 at most"),
                Entry("decode", {"kind": "dense", "widths": [hidden]}),
                Entry("compare", {"kind": "mixed"}),
            ],
        ),
        Entry(
            "score",
            [
                Entry("kind", "combined"),
                Entry(
                    "choose",
                    "networks-by-power",
                    "the network goes in where it finds clearly more injected faults (docs/tables.md)",
                ),
                Entry("scores", list_entries(scores)),
            ],
        ),
    ]


def _train_section(kept: Sequence[ColumnProfile], train_count: int) -> Entry:
    epochs, reason = epochs_for(train_count, _width(kept), ROWS_SEEN)
    batch = batch_for(train_count)
    return Entry(
        "train",
        [
            Entry("epochs", epochs, f"{reason}, by the size of the data (docs/own-data.md)"),
            Entry("batch", batch),
            Entry("threads", threads_for(batch, _width(kept)), "of the CPU; small batches are no quicker on two"),
            Entry("learning_rate", 0.003),
            TRIM,
            Entry("seed", 0),
        ],
    )
