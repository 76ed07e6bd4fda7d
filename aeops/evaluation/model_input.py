"""What a model is given of stored samples when it serves, and what it should make of them."""

import numpy as np

from ae_models.spec import FitSpec, InputSpec
from aeops.evaluation.prepared import Prepared

# Of what is drawn where samples are served corrupted. Neither that of calibration (ae_models.lightning_module), nor one for all:
# the same draws on test and training samples would make strangers look alike.
TEST_SEED, TRAIN_SEED = 3_141_592_653, 1_618_033_988
ROWS_AT_ONCE = 1024


def clean(source: InputSpec, samples: np.ndarray) -> np.ndarray:
    """The channels of stored samples that are given to a model, before anything is corrupted."""
    return samples[:, : -source.target_channels] if source.target_channels else samples


def target_channels(source: InputSpec, samples: np.ndarray) -> np.ndarray:
    """The channels of stored samples that a model should make; all of them where it should give back what it gets."""
    return samples[:, -source.target_channels :] if source.target_channels else samples


def target(source: InputSpec, data: Prepared, samples: np.ndarray) -> np.ndarray:
    """What a model should make of stored samples of numbers, (n, *made_shape) in [0, 1]."""
    return data.scaled(target_channels(source, samples))


def given(fit: FitSpec, samples: np.ndarray, seed: int) -> np.ndarray:
    """Stored samples as a model is served them, (n, *given_shape) in raw units.

    Args:
        fit: the recipe's sentence; where its input is given corrupted, its own corruption is applied, the same way each time.
        samples: (n, *fit.input.shape) in raw units, also memory-mapped.
        seed: TEST_SEED or TRAIN_SEED.
    """
    stored = clean(fit.input, samples)
    return stored if fit.input.given == "clean" else corrupted(fit, stored, seed)


def corrupted(fit: FitSpec, stored: np.ndarray, seed: int) -> np.ndarray:
    import torch  # here: most recipes are served clean samples, and evaluated without torch

    from ae_models import corruptions
    from ae_models.factory import build_part

    module, low, high = build_part(corruptions.CORRUPTIONS, fit.model.corrupt), fit.input.low, fit.input.high
    parts = []
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.default_generator.manual_seed(seed)
        for first in range(0, len(stored), ROWS_AT_ONCE):
            raw = np.array(stored[first : first + ROWS_AT_ONCE], dtype=np.float32)
            x = module(torch.from_numpy((raw - low) / (high - low)))
            parts.append((x.numpy() * (high - low) + low).clip(low, high))  # 32 bits may end a hair outside
    return np.concatenate(parts)
