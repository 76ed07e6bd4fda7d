"""Seven sources of own data, as people have them: real ones where there are some, each in its own form."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
from data_project import shared_data
from image_folders import encoded
from PIL import Image
from shipped_digits import shipped_digits

TILES = 1000
ROWS = 100_000


def write_tiles(folder: Path) -> None:
    """Write 1,000 pictures of magnetic tiles, JPEG and PNG in turn: 608 good ones, and defects in a folder for each kind.

    The set has 500 good tiles; the other 108 are mirror images of some of them.
    """
    with np.load(shared_data("magnetic_tile/magnetic_tile_96.npz")) as arrays:
        images, labels, classes = arrays["images"], arrays["labels"], arrays["classes"]
    names = [str(name).removeprefix("MT_").lower().replace("free", "good") for name in classes]
    good = images[labels == names.index("good")]
    mirrored = good[: TILES - len(images), :, ::-1]
    labels = np.concatenate([labels, np.full(len(mirrored), names.index("good"))])
    for number, (image, label) in enumerate(zip(np.concatenate([images, mirrored]), labels, strict=True)):
        file = folder / names[label] / f"tile-{number:04d}{('.jpg', '.png')[number % 2]}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file, quality=95)


def machine_rows(count: int = ROWS, seed: int = 0) -> pd.DataFrame:
    """Return rows of a plant: eight measurements that depend on three hidden ones, two categories, and cells without a value."""
    draw = np.random.default_rng(seed)
    line = draw.choice(["north", "south", "west"], count, p=[0.5, 0.3, 0.2])
    material = draw.choice(["steel", "brass", "zinc", "tin"], count)
    hidden = draw.normal(size=(count, 3))
    hidden[:, 0] += pd.Series(line).map({"north": 0.0, "south": 2.0, "west": -2.0}).to_numpy()
    hidden[:, 1] += pd.Series(material).map({"steel": 0.0, "brass": 1.5, "zinc": -1.5, "tin": 3.0}).to_numpy()
    mixed = np.tanh(hidden) @ draw.normal(size=(3, 8)) + draw.normal(0, 0.05, (count, 8))
    names = ["pressure", "flow", "speed", "torque", "current", "voltage", "heat", "noise"]
    rows = pd.DataFrame(100 + 20 * mixed, columns=names)
    rows[names] = rows[names].mask(draw.random((count, 8)) < 0.02)
    rows["line"] = pd.Categorical(line)
    rows["material"] = pd.Series(material).mask(draw.random(count) < 0.01)
    rows.insert(0, "part", [f"p{number:06d}" for number in range(count)])
    return rows


def write_taxi_rides(file: Path) -> None:
    """Write NAB's count of taxi rides, every half hour for seven months, as the benchmark has it."""
    packed = shared_data("timeseries/nab/realKnownCause/nyc_taxi.csv.gz")
    file.write_bytes(gzip.decompress(packed.read_bytes()))


def write_news(file: Path) -> None:
    """Write 890 articles, a line each, with their subjects."""
    with gzip.open(shared_data("text/bbc_news_summary.csv.gz"), "rt", encoding="utf-8", newline="") as packed:
        articles = list(csv.DictReader(packed))
    lines = []
    for article in articles:
        row = {"id": article["id"], "category": article["category"], "text": article["document"]}
        lines.append(json.dumps(row, ensure_ascii=False))
    file.write_text("\n".join(lines), encoding="utf-8")


def write_digits(file: Path) -> None:
    """Write 5,000 digits and which they are as arrays of one .npz file."""
    images, labels = shipped_digits()
    np.savez_compressed(file, X=images[:, 0], y=labels)


def heart_rates() -> pd.DataFrame:
    """Return 1,831 measurements of unborn children's heart rates with a state each, of ADBench's set cardio."""
    with np.load(shared_data("adbench/Classical/6_cardio.npz")) as arrays:
        values, is_anomaly = arrays["X"], arrays["y"]
    rows = pd.DataFrame(values, columns=[f"m{number:02d}" for number in range(values.shape[1])])
    rows["state"] = np.where(is_anomaly == 1, "pathologic", "normal")
    rows.insert(0, "record", [f"r{number:05d}" for number in range(len(rows))])
    return rows


def digit_files() -> dict[str, bytes]:
    """Return 800 PNG files of digits: name -> content."""
    images, _ = shipped_digits()
    chosen = np.random.default_rng(0).permutation(len(images))[:800]
    return {f"stamp-{number:04d}.png": encoded(Image.fromarray(images[place, 0]), "PNG") for number, place in enumerate(chosen)}
