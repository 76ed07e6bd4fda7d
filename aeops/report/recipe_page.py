"""A recipe's page in docs/recipes and its rows in the README and the index, all made of its record alone. Light.

To change what a page says: templates/recipe.md.j2; what a recipe has to show: benchmarks/targets.yaml.
"""

import base64
import html
import io
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from aeops.drawing.palette import PAPER
from aeops.drawing.words import number
from aeops.errors import UsageError
from aeops.files import atomic_folder, file_sha256, read_json
from aeops.project import Project
from aeops.report import model_card
from aeops.report.report_page import ALT
from aeops.report.targets import Result, Shows, results

SENTENCE = ("input", "model", "score", "threshold", "train")  # the sections of a recipe that its page shows
# After the pictures of the studies, in this order:
STANDING = ("gallery_median", "errors_flagged_novelty", "errors_missed_novelty", "codes", "histogram", "training")
PICTURES, PICTURE_BYTES = 4, 60_000  # on a page at most; of one at most
PATH, LONG_NUMBER = re.compile(r'\sd="[^"]*"'), re.compile(r"-?\d+\.\d{3,}")  # in an SVG file
EMBEDDED = re.compile(r"(data:image/png;base64,)\s*([A-Za-z0-9+/=\s]+)")
DIGITS = 6  # significant ones of the numbers in a record
BEGIN, END = "<!-- models: written by `make bench-models` -->", "<!-- models: end -->"


# ---------------------------------------------------------------- the record


@dataclass(frozen=True)
class Picture:
    """A drawing of a report: its file's name, and what it shows."""

    file: str
    caption: str


def recipe_record(facts: Mapping[str, Any], artifacts: Path, pictures: list[Picture]) -> dict[str, Any]:
    """All that a page is made of beside the recipe, ready for JSON.

    Args:
        facts: how it was measured: command, commit, machine, recipe_sha256, and seconds {run, train}.
        artifacts: the folder of a finished run: report/ and verdict.json.
        pictures: that the page shows.
    """
    verdict = read_json(artifacts / "verdict.json")
    return {
        **facts,
        "verdict": verdict["verdict"],
        "rules": rounded(verdict["rules"]),
        "metrics": rounded(read_json(artifacts / "report" / "metrics.json")),
        "findings": read_json(artifacts / "report" / "studies.json"),
        "pictures": [asdict(picture) for picture in pictures],
    }


def rounded(value: Any) -> Any:
    """`value` with each number that is not whole kept to so many significant digits."""
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def record_file(project: Project, recipe: str) -> Path:
    return project.root / "benchmarks" / "records" / "models" / f"{recipe}.json"


def read_records(project: Project, recipes: list[str]) -> dict[str, dict[str, Any]]:
    """The records there are, of these recipes."""
    return {name: read_json(record_file(project, name)) for name in recipes if record_file(project, name).is_file()}


def abouts(project: Project, recipes: list[str]) -> dict[str, str]:
    """What each of these recipes says it is for."""
    texts = {name: project.recipe_file(name).read_text(encoding="utf-8") for name in recipes}
    return {name: str(yaml.safe_load(text)["about"]).strip() for name, text in texts.items()}


def is_stale(project: Project, recipe: str, record: Mapping[str, Any]) -> bool:
    """Whether the recipe's file has changed since it was measured."""
    return bool(file_sha256(project.recipe_file(recipe)) != record["recipe_sha256"])


# ---------------------------------------------------------------- pictures


def copy_pictures(report: Path, out: Path) -> tuple[list[Picture], list[str]]:
    """Replaces the folder `out` by the pictures that people look at first: those of the studies, then the standing ones.

    Returns:
        The pictures, PICTURES at most, and why others before them were left out.
    """
    findings = read_json(report / "studies.json").values()
    offered = [Picture(file, caption) for finding in findings for file, caption in finding["figures"]]
    offered += [Picture(f"{name}.svg", ALT[name]) for name in STANDING if (report / "figures" / f"{name}.svg").is_file()]
    chosen: list[Picture] = []
    left_out: list[str] = []
    with atomic_folder(out) as folder:
        for picture in offered:
            if len(chosen) == PICTURES:
                break
            content = on_paper((report / "figures" / picture.file).read_text(encoding="utf-8")).encode()
            if len(content) >= PICTURE_BYTES:
                left_out.append(f"{picture.file} is left out: {len(content):,} bytes, below {PICTURE_BYTES:,} allowed")
                continue
            (folder / picture.file).write_bytes(content)
            chosen.append(picture)
    return chosen, left_out


def on_paper(svg: str) -> str:
    """The drawing on a white ground: its own is transparent, and its dark words would be lost on a dark page.

    Paths are kept to hundredths of a point: half the bytes, and no eye tells.
    """
    svg = PATH.sub(lambda path: LONG_NUMBER.sub(lambda number: f"{float(number[0]):.2f}", path[0]), svg)
    on_white = EMBEDDED.sub(lambda found: f"{found[1]}{flattened(found[2])}", svg)
    return re.sub(r"<svg\b[^>]*>", rf'\g<0>\n <rect width="100%" height="100%" fill="{PAPER}"/>', on_white, count=1)


def flattened(encoded: str) -> str:
    """A PNG image in base64 without its transparency, which white paper makes idle, and grey where it has no colour: smaller."""
    image = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA")
    flat = Image.new("RGB", image.size, PAPER)
    flat.paste(image, mask=image.getchannel("A"))
    red, green, blue = (channel.tobytes() for channel in flat.split())
    out = io.BytesIO()
    (flat.convert("L") if red == green == blue else flat).save(out, "PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode("ascii")


# ---------------------------------------------------------------- the page


def recipe_page(name: str, text: str, record: Mapping[str, Any], shows: Shows) -> str:
    """The page of a recipe as Markdown.

    Args:
        name: of the recipe.
        text: of its file.
        record: see `recipe_record`.
        shows: what it has to show.

    Raises:
        UsageError: a target names a metric that was not measured.
    """
    recipe, metrics = yaml.safe_load(text), record["metrics"]
    found = results(shows, metrics, name)
    return (
        environment()
        .get_template("recipe.md.j2")
        .render(
            name=name,
            about=recipe["about"].strip(),
            targets=targets_table(found),
            seconds=record["seconds"],
            machine=machine(record["machine"]),
            commit=record["commit"],
            verdict=record["verdict"],
            pictures=record["pictures"],
            sentence="\n".join(section(text, key) for key in SENTENCE if key in recipe),
            data=model_card.data(recipe, metrics["rows"]),
            tables=model_card.metric_tables(metrics),
            findings=[model_card.study(readable(finding)) for finding in record["findings"].values()],
            rules=model_card.rules(record["verdict"], record["rules"]),
            promise=model_card.promise(metrics),
            short=shortcomings(found, record),
            limits=model_card.limits(recipe, metrics),
        )
    )


def environment() -> Environment:
    """Jinja2 for Markdown that stops at a name that is not there."""
    made = Environment(
        loader=PackageLoader("aeops.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    made.filters |= {"number": number, "cell": cell}
    return made


def section(text: str, key: str) -> str:
    """A section of a recipe as it is written, comments and all."""
    found = re.search(rf"^{key}:.*(?:\n+[ \t].*)*", text, re.MULTILINE)
    assert found is not None, key  # the recipe has the key
    return found[0]


def machine(facts: Mapping[str, str]) -> str:
    gpu = facts["platform.gpu"]
    return f"{facts['platform.cpu']}, {facts['platform.threads']} threads, {'no GPU' if gpu == 'none' else gpu}"


def targets_table(found: list[Result]) -> str:
    rows = [[one.target.name, one.target.written(one.value), one.baselines, one.target.asked, one.mark] for one in found]
    return model_card.table(["", "autoencoder", "beside it", "target", ""], rows)


def shortcomings(found: list[Result], record: Mapping[str, Any]) -> list[str]:
    """Targets that were missed and rules that failed; or that there are none."""
    lines = [
        f"{one.target.name}: {one.target.written(one.value)}, {one.target.asked} was the target." for one in found if not one.met
    ]
    lines += [f"The gate's rule `{rule['name']}` failed: {rule['says']}." for rule in record["rules"] if not rule["passed"]]
    return lines or ["Of what was asked, nothing: every target is met and every rule of the gate passed."]


def readable(finding: Mapping[str, Any]) -> dict[str, Any]:
    """A finding whose cells Markdown shows as they are: texts are whatever people wrote."""
    return {**finding, "rows": [[cell(text) for text in row] for row in finding["rows"]]}


def cell(text: str) -> str:
    """One line in which nothing is HTML, emphasis or a link."""
    return re.sub(r"([*\[\]`])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


# ---------------------------------------------------------------- the tables over all recipes


def readme_table(recipes: list[str], records: Mapping[str, Mapping[str, Any]], targets: Mapping[str, Shows]) -> str:
    """Each recipe with its leading figures, beside its baselines; those without a record say so."""
    head = ["recipe", "what it does", "measured", "beside it", "target", "training"]
    return model_card.table(head, [readme_row(name, records.get(name), targets[name]) for name in recipes])


def readme_row(name: str, record: Mapping[str, Any] | None, shows: Shows) -> list[str]:
    if record is None:
        asked = lines([f"{target.name} {target.asked}" for target in shows.targets])
        return [f"[{name}](recipes/{name}.yaml)", shows.does, "not measured yet", "", asked, ""]
    found = results(shows, record["metrics"], name)
    return [
        f"[{name}](docs/recipes/{name}.md)",
        shows.does,
        lines([f"{one.target.name} {one.target.written(one.value)}" for one in found]),
        lines([one.baselines for one in found]),
        lines([f"{one.target.asked}: {one.mark}" for one in found]),
        f"{number(record['seconds']['train'], 0)} s",
    ]


def index_table(recipes: list[str], records: Mapping[str, Mapping[str, Any]], told: Mapping[str, str]) -> str:
    """Each recipe with what it is for (`told`) and the gate's verdict, for the folder of the pages."""
    rows = [
        [f"[{name}]({name}.md)" if name in records else f"[{name}](../../recipes/{name}.yaml)", told[name], verdict]
        for name in recipes
        for verdict in [str(records[name]["verdict"]) if name in records else "not measured yet"]
    ]
    return model_card.table(["recipe", "what it is for", "the gate's verdict"], rows)


def lines(parts: list[str]) -> str:
    return "<br>".join(parts)


def with_table(text: str, table: str, file: str) -> str:
    """`text` with `table` between its two marks.

    Raises:
        UsageError: the marks are missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(f"{file}: the marks of the table are missing; write {BEGIN} and {END} where it belongs")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"
