"""A trained model on disk: bundle.json, weights.safetensors, scorer.safetensors, model.onnx and SHA256SUMS. No pickle.

Written aside and renamed, so it is whole or not there; loading checks the sums before anything else is read. To change
what is in it: raise FORMAT and keep `load` reading every older one.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from ae_models import score
from ae_models.autoencoder import Autoencoder
from ae_models.errors import BundleError
from ae_models.export import Scorer, export_onnx
from ae_models.files import as_json, file_sha256, folder_aside
from ae_models.parts import build
from ae_models.spec import FitSpec
from ae_models.threshold import Threshold

FORMAT = 1
SUMS = "SHA256SUMS"
DOCUMENT, WEIGHTS, SCORER, ONNX = "bundle.json", "weights.safetensors", "scorer.safetensors", "model.onnx"
FILES = (DOCUMENT, ONNX, SCORER, WEIGHTS)


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory.

    Attributes:
        document: bundle.json.
        scorer: the whole model, in evaluation mode, on the CPU.
    """

    document: dict[str, Any]
    scorer: Scorer


def write(folder: Path, document: Mapping[str, Any], scorer: Scorer, samples: np.ndarray) -> dict[str, Any]:
    """Writes a bundle, replacing the one in `folder`.

    Args:
        folder: the bundle's.
        document: bundle.json without its `format`.
        scorer: the model.
        samples: raw ones (n >= 2, c, h, w) on which the ONNX model is compared with torch.

    Returns:
        the comparison, as `ae_models.export.export_onnx` gives it.
    """
    with folder_aside(folder) as aside:
        (aside / DOCUMENT).write_text(as_json({"format": FORMAT, **document}), encoding="utf-8")
        exported = export_onnx(scorer, aside / ONNX, samples)
        save_file(weights(scorer.autoencoder), aside / WEIGHTS)
        save_file({"calibration_scores": scorer.calibration_scores.numpy()}, aside / SCORER)
        (aside / SUMS).write_text("".join(f"{file_sha256(aside / name)}  {name}\n" for name in FILES), encoding="utf-8")
        for file in aside.iterdir():
            file.chmod(0o644)  # safetensors makes 0600; another user may have to serve it
    return exported


def weights(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(value.numpy()) for name, value in module.state_dict().items()}


def verify(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of a bundle, after checking that they are what SHA256SUMS says and nothing is beside them.

    Raises:
        BundleError: no such folder, a missing, extra or altered file.
    """
    try:
        sums = read_sums((folder / SUMS).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise refused(folder, f"its {SUMS} cannot be read ({type(error).__name__})") from error
    found = {entry.name for entry in folder.iterdir()} - {SUMS}
    if sums.keys() != set(FILES) or found != set(FILES):
        raise refused(folder, f"it holds {sorted(found)} and lists {sorted(sums)}; exactly {sorted(FILES)} is allowed")
    for name, expected in sums.items():
        if (folder / name).is_symlink() or not (folder / name).is_file() or file_sha256(folder / name) != expected:
            raise refused(folder, f"{name} is not the file that {SUMS} lists")
    return sums


def read_sums(text: str) -> dict[str, str]:
    """File name to sum, from lines `<sum>  <name>`; other lines make names that no bundle has."""
    return {name: value for value, _, name in (line.partition("  ") for line in text.splitlines())}


def bundle_sha256(folder: Path) -> str:
    """What names a bundle: the SHA-256 of its SHA256SUMS."""
    return hashlib.sha256((folder / SUMS).read_bytes()).hexdigest()


def load(folder: Path) -> Bundle:
    """Verifies a bundle, then rebuilds its model from the sentence in bundle.json and fills in the weights.

    Raises:
        BundleError: see `verify`; or a format that this version does not know.
        SpecError: a sentence that this version does not know.
    """
    verify(folder)
    document = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
    if document.get("format") != FORMAT:
        raise refused(folder, f"its format is {document.get('format')!r} and {FORMAT} is allowed: use the version that wrote it")
    spec = FitSpec.from_plain(spec_of(document), str(folder / DOCUMENT))
    autoencoder = Autoencoder(spec.model, spec.input)
    autoencoder.load_state_dict({name: torch.from_numpy(value) for name, value in load_file(folder / WEIGHTS).items()})
    scores = load_file(folder / SCORER)["calibration_scores"]
    threshold = Threshold(document["threshold"]["value"], document["threshold"]["rank"], scores)
    return Bundle(document, Scorer(autoencoder, build(score.KINDS, spec.score), threshold).eval())


def spec_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The FitSpec in a bundle.json: its sections without what the training found out."""
    threshold = {key: document["threshold"][key] for key in ("kind", "false_alarm_rate")}
    train = {key: value for key, value in document["train"].items() if key != "steps"}
    return {key: document[key] for key in ("input", "model", "score")} | {"threshold": threshold, "train": train}


def refused(folder: Path, why: str) -> BundleError:
    return BundleError(f"the bundle {folder} is refused: {why}. Nothing of it was loaded; make or download it again")
