"""The inputs that a model gets when it serves stored samples, and the targets of its reconstructions."""

import numpy as np

from ae_models.spec import FitSpec, InputSpec
from ae_models.value_range import value_range
from aeops.evaluation.prepared import PreparedSamples

# For the corruption of samples that are served corrupted. Neither the seed of calibration (ae_models.data_loading), nor one
# for both: the same draws on test and training samples would make unrelated samples look alike.
TEST_SEED, TRAIN_SEED = 3_141_592_653, 1_618_033_988
ROWS_AT_ONCE = 1024


def clean_inputs(source: InputSpec, samples: np.ndarray) -> np.ndarray:
    """Return the channels of stored samples that are a model's input, before anything is corrupted."""
    if not source.target_channels:
        return samples
    return samples[:, : -source.target_channels]


def target_channels(source: InputSpec, samples: np.ndarray) -> np.ndarray:
    """Return the channels of stored samples that a model should output; all of them where it reconstructs its input."""
    if not source.target_channels:
        return samples
    return samples[:, -source.target_channels :]


def scaled_targets(source: InputSpec, data: PreparedSamples, samples: np.ndarray) -> np.ndarray:
    """Return the targets of stored samples of numbers, (n, *output_shape) in [0, 1]."""
    return data.scale(target_channels(source, samples))


def served_inputs(fit: FitSpec, samples: np.ndarray, seed: int) -> np.ndarray:
    """Return stored samples as a model is served them, (n, *input_shape) in raw units.

    Args:
        fit: the recipe's model; where its input is served corrupted, its own corruption is applied, the same way each time.
        samples: (n, *fit.input.shape) in raw units, also memory-mapped.
        seed: TEST_SEED or TRAIN_SEED.
    """
    inputs = clean_inputs(fit.input, samples)
    if fit.input.given == "clean":
        return inputs
    return _corrupt_inputs(fit, inputs, seed)


def _corrupt_inputs(fit: FitSpec, inputs: np.ndarray, seed: int) -> np.ndarray:
    import torch  # here: most recipes are served clean samples, and evaluated without torch

    from ae_models import corruptions
    from ae_models.factory import build_part

    module, (low, high) = build_part(corruptions.CORRUPTIONS, fit.model.corrupt), value_range(fit.input)
    parts = []
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.default_generator.manual_seed(seed)
        for start in range(0, len(inputs), ROWS_AT_ONCE):
            raw = np.array(inputs[start : start + ROWS_AT_ONCE], dtype=np.float32)
            x = module(torch.from_numpy(((raw - low) / (high - low)).astype(np.float32)))
            parts.append((x.numpy() * (high - low) + low).clip(low, high))  # 32 bits may end a hair outside
    return np.concatenate(parts)
