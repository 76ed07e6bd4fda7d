"""Page of a recipe in docs/recipes, and its rows in the README and the index, from its record alone. Loads no torch.

To change what a page says: templates/recipe.md.j2; the targets of a recipe: benchmarks/targets.yaml.
"""

import base64
import html
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from ae_models.checksums import json_sha256
from ae_models.mappings import map_values
from aeops.drawing.palette import PAPER_COLOUR
from aeops.drawing.words import format_number
from aeops.errors import UsageError
from aeops.files import atomic_folder
from aeops.gate.seed_record import METRIC_SECTIONS, MetricSummary, read_seed_record, seed_settings_sha256
from aeops.machine.stored_json import read_json
from aeops.project import Project
from aeops.recipe.yaml_reader import read_yaml
from aeops.report import model_card
from aeops.report.report_page import FIGURE_TEXTS
from aeops.report.targets import RecipeTargets, TargetResult, target_results

# Sections of a recipe that decide what is measured; the others decide what becomes of it.
MEASURED_SECTIONS = ("data", "input", "model", "score", "threshold", "train", "evaluate")
MODEL_SECTIONS = ("input", "model", "score", "threshold", "train")  # sections of a recipe that its page shows
# After the pictures of the studies, in this order:
REPORT_FIGURES = ("gallery_median", "errors_flagged_novelty", "errors_missed_novelty", "codes", "histogram", "training")
MAX_PICTURES = 4  # on a page
PICTURE_BYTES = 75_000  # of one picture at most
PATH_DATA = re.compile(r'\sd="[^"]*"')  # in an SVG file
LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
EMBEDDED_PNG = re.compile(r"(data:image/png;base64,)\s*([A-Za-z0-9+/=\s]+)")
SIGNIFICANT_DIGITS = 6  # of the numbers in a record
TABLE_BEGIN, TABLE_END = "<!-- models: written by `make bench-models` -->", "<!-- models: end -->"

RecipeRecord = Mapping[str, Any]  # benchmarks/records/models/<recipe>.json


# ---------------------------------------------------------------- the record


@dataclass(frozen=True)
class RecipePicture:
    """A figure of a report: the name of its file, and its description."""

    file: str
    caption: str


def recipe_record(measurement: Mapping[str, Any], artifacts: Path, pictures: list[RecipePicture]) -> dict[str, Any]:
    """Return the content of a record: all that a page shows besides the recipe, ready for JSON.

    Args:
        measurement: command, commit, machine, settings_sha256, and seconds {run, train} of the run.
        artifacts: the folder of a finished run: report/ and verdict.json.
        pictures: on the page.
    """
    verdict = read_json(artifacts / "verdict.json")
    return {
        **measurement,
        "verdict": verdict["verdict"],
        "rules": round_numbers(verdict["rules"]),
        "metrics": round_numbers(read_json(artifacts / "report" / "metrics.json")),
        "findings": read_json(artifacts / "report" / "studies.json"),
        "pictures": list(map(asdict, pictures)),
    }


def round_numbers(value: Any) -> Any:
    """Return a JSON value with each float rounded to SIGNIFICANT_DIGITS."""
    if isinstance(value, Mapping):
        return map_values(round_numbers, value)
    if isinstance(value, list):
        return list(map(round_numbers, value))
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    return value


def recipe_record_file(project: Project, recipe: str) -> Path:
    """Return the path of a recipe's record, which may not exist."""
    return project.root / "benchmarks" / "records" / "models" / f"{recipe}.json"


def read_records(project: Project, recipes: list[str]) -> dict[str, RecipeRecord]:
    """Return the existing records of these recipes by name; `over_seeds` holds the metrics of the recipe's record of seeds."""
    records: dict[str, RecipeRecord] = {}
    for name in recipes:
        file = recipe_record_file(project, name)
        if file.is_file():
            records[name] = {**read_json(file), "over_seeds": metrics_over_seeds(project, name)}
    return records


def metrics_over_seeds(project: Project, recipe: str) -> dict[str, MetricSummary]:
    """Return the metrics of the recipe's record of seeds; none where there is none, or it is of other settings."""
    seeds = read_seed_record(project.seed_record(recipe))
    if seeds is None or seeds["measured_sha256"] != seed_settings_sha256(project.recipe_file(recipe), METRIC_SECTIONS):
        return {}
    return seeds["metrics"]


def recipe_descriptions(project: Project, recipes: list[str]) -> dict[str, str]:
    """Return the `about` of each of these recipes by name."""
    descriptions = {}
    for name in recipes:
        recipe = read_yaml(project.recipe_file(name))
        descriptions[name] = str(recipe["about"]).strip()
    return descriptions


def is_stale(project: Project, recipe: str, record: RecipeRecord) -> bool:
    """Return True if the recipe has changed since it was measured, in a way that changes what is measured."""
    return bool(settings_sha256(project.recipe_file(recipe)) != record["settings_sha256"])


def settings_sha256(recipe_file: Path) -> str:
    """Return the SHA-256 of the settings of a recipe that decide what is measured."""
    raw_recipe = read_yaml(recipe_file)
    return json_sha256({name: raw_recipe.get(name) for name in MEASURED_SECTIONS})


# ---------------------------------------------------------------- pictures


def copy_pictures(report: Path, folder: Path) -> tuple[list[RecipePicture], list[str]]:
    """Replace a folder by the pictures of a page: those of the studies first, then REPORT_FIGURES.

    Args:
        report: the report's folder, with studies.json and figures/.
        folder: where the pictures go.

    Returns:
        The pictures, MAX_PICTURES at most, and a message for each that was too large.
    """
    pictures: list[RecipePicture] = []
    messages: list[str] = []
    with atomic_folder(folder) as new_folder:
        for picture in _picture_candidates(report):
            if len(pictures) == MAX_PICTURES:
                break
            content = put_on_paper((report / "figures" / picture.file).read_text(encoding="utf-8")).encode()
            if len(content) >= PICTURE_BYTES:
                messages.append(f"{picture.file} is left out: expected less than {PICTURE_BYTES:,} bytes, got {len(content):,}")
                continue
            (new_folder / picture.file).write_bytes(content)
            pictures.append(picture)
    return pictures, messages


def _picture_candidates(report: Path) -> Iterator[RecipePicture]:
    for study_result in read_json(report / "studies.json").values():
        for file, figure_text in study_result["figures"]:
            yield RecipePicture(file, figure_text)
    for name in REPORT_FIGURES:
        if (report / "figures" / f"{name}.svg").is_file():
            yield RecipePicture(f"{name}.svg", FIGURE_TEXTS[name])


def put_on_paper(svg: str) -> str:
    """Return the SVG on a white ground: its own is transparent, and its dark text would be invisible on a dark page.

    Paths are rounded to hundredths of a point: half the bytes, without a visible difference.
    """
    svg = PATH_DATA.sub(_round_path, svg)
    svg = EMBEDDED_PNG.sub(lambda match: match[1] + _flatten_png(match[2]), svg)
    return re.sub(r"<svg\b[^>]*>", rf'\g<0>\n <rect width="100%" height="100%" fill="{PAPER_COLOUR}"/>', svg, count=1)


def _round_path(match: re.Match[str]) -> str:
    return LONG_NUMBER.sub(lambda number_match: f"{float(number_match[0]):.2f}", match[0])


def _flatten_png(base64_png: str) -> str:
    """Return a PNG image in base64 on white instead of transparent, and grey where it has no colour: both are smaller."""
    image = Image.open(io.BytesIO(base64.b64decode(base64_png))).convert("RGBA")
    flat_image = Image.new("RGB", image.size, PAPER_COLOUR)
    flat_image.paste(image, mask=image.getchannel("A"))
    red, green, blue = map(Image.Image.tobytes, flat_image.split())
    if red == green == blue:
        flat_image = flat_image.convert("L")
    buffer = io.BytesIO()
    flat_image.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


# ---------------------------------------------------------------- the page


def recipe_page(name: str, text: str, record: RecipeRecord, recipe_targets: RecipeTargets) -> str:
    """Return the page of a recipe as Markdown.

    Args:
        name: of the recipe.
        text: of its file.
        record: see `recipe_record`; with the key `over_seeds` as `read_records` returns it, where it was trained several times.
        recipe_targets: of the recipe.

    Raises:
        UsageError: a target names a metric that was not measured.
    """
    recipe, metrics = yaml.safe_load(text), record["metrics"]
    results = target_results(recipe_targets, metrics, name, record.get("over_seeds", {}))
    return (
        _markdown_environment()
        .get_template("recipe.md.j2")
        .render(
            name=name,
            about=recipe["about"].strip(),
            targets=_targets_table(results),
            seconds=record["seconds"],
            machine=_describe_machine(record["machine"]),
            commit=record["commit"],
            verdict=record["verdict"],
            pictures=record["pictures"],
            model_sections="\n".join(recipe_section(text, key) for key in MODEL_SECTIONS if key in recipe),
            data=model_card.describe_data(recipe, metrics["rows"]),
            tables=model_card.metric_tables(metrics),
            studies=[model_card.study_section(_escape_rows(study_result)) for study_result in record["findings"].values()],
            rules=model_card.rules_section(record["verdict"], record["rules"]),
            promise=model_card.describe_threshold(recipe, metrics),
            shortcomings=_list_shortcomings(results, record),
            limits=model_card.describe_limits(recipe, metrics),
        )
    )


def _markdown_environment() -> Environment:
    """Return the Jinja environment of Markdown pages; it fails at an undefined name."""
    jinja_environment = Environment(
        loader=PackageLoader("aeops.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    jinja_environment.filters |= {"number": format_number, "cell": _escape_cell}
    return jinja_environment


def recipe_section(text: str, key: str) -> str:
    """Return a section of a recipe's text as it is written, with its comments."""
    match = re.search(rf"^{key}:.*(?:\n+[ \t].*)*", text, re.MULTILINE)
    assert match is not None, key  # the recipe has the key
    return match[0]


def _describe_machine(platform: Mapping[str, str]) -> str:
    gpu = platform["platform.gpu"]
    if gpu == "none":
        gpu = "no GPU"
    return f"{platform['platform.cpu']}, {platform['platform.threads']} threads, {gpu}"


def _targets_table(results: list[TargetResult]) -> str:
    rows = []
    for result in results:
        target = result.target
        rows.append([target.name, result.value_text, result.baselines_text, target.requirement, result.status_text])
    return model_card.markdown_table(["", "model", "beside it", "target", ""], rows)


def _list_shortcomings(results: list[TargetResult], record: RecipeRecord) -> list[str]:
    """Return a sentence for each target that was missed and each rule that failed, or one that there are none."""
    sentences = []
    for result in results:
        if not result.is_reached:
            sentences.append(f"{result.target.name}: {result.value_text}, {result.target.requirement} was the target.")
    for rule in record["rules"]:
        if not rule["passed"]:
            sentences.append(f"The gate's rule `{rule['name']}` failed: {rule['says']}.")
    return sentences or ["Nothing: every target is met and every rule of the gate passed."]


def _escape_rows(study_result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a study's result with cells that Markdown shows as they are: the texts may hold markup."""
    rows = [list(map(_escape_cell, row)) for row in study_result["rows"]]
    return {**study_result, "rows": rows}


def _escape_cell(text: str) -> str:
    """Return a text on one line in which nothing is HTML, emphasis or a link."""
    return re.sub(r"([*\[\]`])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


# ---------------------------------------------------------------- the tables over all recipes


def readme_table(recipes: list[str], records: Mapping[str, RecipeRecord], targets_by_recipe: Mapping[str, RecipeTargets]) -> str:
    """Return the README's table: each recipe with its leading figures beside its baselines, or that it was not measured."""
    head = ["recipe", "what it does", "measured", "beside it", "target", "training"]
    rows = [_readme_row(name, records.get(name), targets_by_recipe[name]) for name in recipes]
    return model_card.markdown_table(head, rows)


def _readme_row(name: str, record: RecipeRecord | None, recipe_targets: RecipeTargets) -> list[str]:
    if record is None:
        requirements = [f"{target.name} {target.requirement}" for target in recipe_targets.targets]
        return [f"[{name}](recipes/{name}.yaml)", recipe_targets.summary, "not measured yet", "", _join_lines(requirements), ""]
    value_lines, baseline_lines, target_lines = [], [], []
    for result in target_results(recipe_targets, record["metrics"], name, record.get("over_seeds", {})):
        value_lines.append(f"{result.target.name} {result.value_text}")
        baseline_lines.append(result.baselines_text)
        target_lines.append(f"{result.target.requirement}: {result.status_text}")
    return [
        f"[{name}](docs/recipes/{name}.md)",
        recipe_targets.summary,
        _join_lines(value_lines),
        _join_lines(baseline_lines),
        _join_lines(target_lines),
        f"{format_number(record['seconds']['train'], 0)} s",
    ]


def index_table(recipes: list[str], records: Mapping[str, RecipeRecord], descriptions: Mapping[str, str]) -> str:
    """Return the table of docs/recipes/README.md: each recipe with its description and the gate's verdict."""
    rows = []
    for name in recipes:
        if name in records:
            rows.append([f"[{name}]({name}.md)", descriptions[name], str(records[name]["verdict"])])
        else:
            rows.append([f"[{name}](../../recipes/{name}.yaml)", descriptions[name], "not measured yet"])
    return model_card.markdown_table(["recipe", "what it is for", "the gate's verdict"], rows)


def _join_lines(texts: list[str]) -> str:
    return "<br>".join(texts)


def with_table(text: str, table: str, file: str) -> str:
    """Return `text` with `table` between TABLE_BEGIN and TABLE_END.

    Args:
        text: of a Markdown file.
        table: in Markdown.
        file: name of the Markdown file, for the message.

    Raises:
        UsageError: the two comments are missing.
    """
    text_above, begin_mark, rest = text.partition(TABLE_BEGIN)
    _, end_mark, text_below = rest.partition(TABLE_END)
    if not begin_mark or not end_mark:
        raise UsageError(
            f"{file}: expected the marks {TABLE_BEGIN} and {TABLE_END} around the table; write them where it belongs"
        )
    return f"{text_above}{TABLE_BEGIN}\n{table}\n{TABLE_END}{text_below}"
