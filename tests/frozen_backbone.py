"""A convolutional network of the digits' classes, trained in a second and exported to ONNX: a backbone for tests."""

import warnings
from functools import cache
from pathlib import Path

import torch
from shipped_digits import shipped_digits
from torch import nn
from torch.nn import functional as F

STEPS, BATCH, LEARNING_RATE = 40, 64, 0.01
HELD_OUT = 1000  # digits that it is not trained on


@cache
def trained_network() -> tuple[nn.Module, float]:
    """Return the network, of (n, 1, 28, 28) in [0, 1] to ten logits, and the share of held-out digits that it reads."""
    images, labels = shipped_digits()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    x, y = torch.from_numpy(images.copy())[order].float() / 255, torch.from_numpy(labels.copy())[order]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [
            nn.Conv2d(1, 8, 3, 2, 1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, 2, 1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
        ]
        network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 7 * 7, 10))
        optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
        for _ in range(STEPS):
            batch = torch.randint(HELD_OUT, len(x), (BATCH,))
            optimizer.zero_grad()
            F.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
    network.eval()
    with torch.inference_mode():
        accuracy = float((network(x[:HELD_OUT]).argmax(1) == y[:HELD_OUT]).float().mean())
    return network, accuracy


def export_network(network: nn.Module, file: Path, shape: tuple[int, ...] = (1, 28, 28)) -> Path:
    """Write a network of images (n, *shape) as ONNX."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", message="Constant folding", category=UserWarning)
        axes = {"image": {0: "n"}, "output": {0: "n"}}
        torch.onnx.export(
            network,
            (torch.zeros(2, *shape),),
            str(file),
            dynamo=False,
            opset_version=18,
            input_names=["image"],
            output_names=["output"],
            dynamic_axes=axes,
        )
    return file


def write_backbone(file: Path) -> Path:
    """Write the trained network, its classifier included, as ONNX."""
    return export_network(trained_network()[0], file)
