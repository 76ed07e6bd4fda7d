"""A module as onnxruntime sees it, on a batch of another size than the one it was exported with."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

ROWS = 2  # of the batch that the export sees


class Called(nn.Module):
    def __init__(self, function: Callable[..., Tensor], module: nn.Module) -> None:
        super().__init__()
        self.function, self.module = function, module

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def by_onnxruntime(module: nn.Module, function: Callable[..., Tensor], folder: Path, *inputs: Tensor) -> Any:
    """What `function`, of an evaluating `module`, says of `inputs` (more than ROWS rows each), by way of an ONNX file."""
    names = [f"input{i}" for i in range(len(inputs))]
    assert all(len(given) > ROWS for given in inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", message="Constant folding", category=UserWarning)  # of paddings, as they are exported
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # of shapes, which do not change: the answers tell if they do
        torch.onnx.export(
            Called(function, module).eval(),
            tuple(given[:ROWS] for given in inputs),
            str(folder / "model.onnx"),
            dynamo=False,
            opset_version=18,
            input_names=names,
            output_names=["output"],
            dynamic_axes={name: {0: "n"} for name in [*names, "output"]},
        )
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {name: given.numpy() for name, given in zip(names, inputs, strict=True)})
    return np.asarray(output)
