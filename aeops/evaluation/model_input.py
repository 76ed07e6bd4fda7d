"""The inputs that a model gets when it serves stored samples, and the targets of its reconstructions."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from ae_models.spec import FitSpec, InputSpec
from ae_models.value_range import value_range
from aeops.evaluation.prepared import PreparedSamples
from aeops.evaluation.sample_blocks import BLOCK_VALUES, new_array, release_pages, sample_values

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


def served_inputs(fit: FitSpec, samples: np.ndarray, seed: int, folder: Path | None = None) -> np.ndarray:
    """Return stored samples as a model is served them, (n, *input_shape) in raw units.

    Args:
        fit: the recipe's model; where its input is served corrupted, its own corruption is applied, the same way each time.
        samples: (n, *fit.input.shape) in raw units, also memory-mapped.
        seed: TEST_SEED or TRAIN_SEED.
        folder: of a file for the result where it is large; None: in memory, whatever its size.
    """
    inputs = clean_inputs(fit.input, samples)
    if fit.input.given == "clean":
        return inputs
    blocks = _corrupted_blocks(fit, inputs, seed)
    if folder is None:
        return np.concatenate(list(blocks))
    first, start = next(blocks), 0
    result = new_array((len(inputs), *first.shape[1:]), first.dtype, folder)
    for block in chain([first], blocks):
        result[start : start + len(block)] = block
        start += len(block)
        release_pages(result, samples)
    return result


def _corrupted_blocks(fit: FitSpec, inputs: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    import torch  # here: most recipes are served clean samples, and evaluated without torch

    from ae_models import corruptions
    from ae_models.factory import build_part

    module, (low, high) = build_part(corruptions.CORRUPTIONS, fit.model.corrupt), value_range(fit.input)
    rows_at_once = max(1, min(ROWS_AT_ONCE, BLOCK_VALUES // sample_values(inputs)))
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.default_generator.manual_seed(seed)
        for start in range(0, len(inputs), rows_at_once):
            raw = np.array(inputs[start : start + rows_at_once], dtype=np.float32)
            x = module(torch.from_numpy(((raw - low) / (high - low)).astype(np.float32)))
            yield (x.numpy() * (high - low) + low).clip(low, high)  # 32 bits may end a hair outside
