import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from shipped_digits import shipped_digits

from ae_models.fit import fit
from ae_models.spec import DisagreementScoreSpec, FitSpec

PLAIN = {
    "input": {"kind": "image", "shape": [1, 28, 28], "low": 0, "high": 255},
    "model": {
        "corrupt": {"kind": "none"},
        "encode": {"kind": "conv", "widths": [4, 8], "kernel": 4},
        "bottleneck": {"kind": "identity", "size": 16},
        "decode": {"kind": "conv", "widths": [8, 4], "kernel": 4},
        "compare": {"kind": "mse"},
    },
    "score": {"kind": "normalised-residual", "energy": 0.5, "blur": 1.0},
    "threshold": {"kind": "split-conformal", "false_alarm_rate": 0.05},
    "train": {
        "epochs": 4,
        "batch": 64,
        "learning_rate": 0.02,
        "seed": 3,
        "accelerator": "cpu",
        "augment": {"kind": "affine", "shift": 1.0, "rotation": 8.0, "scale": 0.08},
    },
}


@pytest.fixture(scope="session")
def spec() -> FitSpec:
    """A small model with a short training, on the CPU so that its numbers can be stored."""
    return FitSpec.from_dict(PLAIN, "spec.json")


@pytest.fixture(scope="session")
def digits() -> np.ndarray:
    """640 real digits of all kinds, raw, (640, 1, 28, 28) uint8."""
    images, _ = shipped_digits()
    return images[::7][:640].copy()


@dataclasses.dataclass(frozen=True)
class Fitted:
    bundle: Path
    history: Path
    checkpoints: Path


@pytest.fixture(scope="session")
def fit_into(digits: np.ndarray) -> Callable[[FitSpec, Path], Fitted]:
    """Trains on 320 digits, watches 64, calibrates on 256."""

    def run(spec: FitSpec, folder: Path) -> Fitted:
        result = Fitted(folder / "bundle", folder / "training", folder / "checkpoints")
        fit(
            spec,
            digits[:320],
            digits[320:384],
            digits[384:],
            checkpoints=result.checkpoints,
            content_sha256="0" * 64,
            recipe="small",
            bundle=result.bundle,
            history=result.history,
            progress_bar=False,
        )
        return result

    return run


@pytest.fixture(scope="session")
def fitted(spec: FitSpec, fit_into: Callable[[FitSpec, Path], Fitted], tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    return fit_into(spec, tmp_path_factory.mktemp("fitted"))


@pytest.fixture(scope="session")
def ensemble_spec(spec: FitSpec) -> FitSpec:
    """Two of the small models, scored by their disagreement."""
    train = dataclasses.replace(spec.train, members=2, threads=1)
    return dataclasses.replace(spec, train=train, score=DisagreementScoreSpec(energy=0.5, blur=1.0))


@pytest.fixture(scope="session")
def fitted_ensemble(
    ensemble_spec: FitSpec, fit_into: Callable[[FitSpec, Path], Fitted], tmp_path_factory: pytest.TempPathFactory
) -> Fitted:
    return fit_into(ensemble_spec, tmp_path_factory.mktemp("ensemble"))
