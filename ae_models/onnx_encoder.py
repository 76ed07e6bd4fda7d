"""A frozen convolutional network of an ONNX file as an encoder. It runs in torch, so a model with it is exported as one graph."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ae_models.encoder_interface import EncoderModule
from ae_models.errors import SpecError
from ae_models.names import names_in, names_not_in
from ae_models.onnx_operators import Operation, build_operation, tensor_inputs
from ae_models.spec import OnnxEncoderSpec

if TYPE_CHECKING:
    from ae_models.onnx_graph import OnnxGraph

__all__ = ["FrozenNetwork", "OnnxEncoder"]


class OnnxEncoder(EncoderModule):
    """The maps of a frozen network, brought to the size of the finest and put together; then what is trained of the encoder.

    That is a 1x1 convolution with ReLU and a dense layer. The network's weights are no parameters and are not saved with the
    others: its file is kept beside them. Gradients go through it to the input where that asks for them, never to its weights.

    Args:
        path: of the file.
        path_sha256: of the file, or None.
        maps: names of the tensors that are the maps; none: see `ae_models.onnx_graph`.
        mean: subtracted from inputs in [0, 1]: one number, or one a channel of the network.
        std: by which they are then divided, the same.
        resize: height and width that the network reads; none: the sample's.
        width: channels of the trained convolution.
        shape: (c, h, w) of an input.
        size: numbers of an output.

    Raises:
        SpecError: see `ae_models.onnx_graph.read_onnx_graph`, and `ae_models.onnx_operators.build_operation`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        path: str,
        path_sha256: str | None,
        maps: tuple[str, ...],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        resize: tuple[int, ...],
        width: int,
        shape: tuple[int, ...],
        size: int,
    ) -> None:
        super().__init__()
        from ae_models.onnx_graph import read_onnx_graph  # here: no other model needs onnx, which takes .3 s to import

        graph = read_onnx_graph(OnnxEncoderSpec(path, path_sha256, maps, mean, std, resize, width), shape)
        self.network = FrozenNetwork(graph)
        self._input_shape = graph.input_shape
        finest_map = max(graph.map_shapes(), key=lambda map_shape: map_shape[1] * map_shape[2])
        self._sides = finest_map[1:]
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)
        channels = sum(map_shape[0] for map_shape in graph.map_shapes())
        self.reduce = nn.Conv2d(channels, width, 1)
        self.dense = nn.Linear(width * self._sides[0] * self._sides[1], size)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_with_features(x)[0]

    def forward_with_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x)
        output: Tensor = self.dense(self.reduce(features).relu().flatten(1))
        return output, features

    def features(self, x: Tensor) -> Tensor:
        """Return the maps of inputs (n, *shape) in [0, 1], side by side: (n, channels of all maps, h, w) of the finest map."""
        maps = self.network(self._network_input(x))
        resized_maps = [_resize(one_map, self._sides) for one_map in maps]
        return torch.cat(resized_maps, 1)

    def _network_input(self, x: Tensor) -> Tensor:
        channels, *sides = self._input_shape
        x = _resize(x, sides)
        if x.shape[1] != channels:
            x = x.expand(-1, channels, -1, -1)
        return (x - self.mean) / self.std


class _Step(NamedTuple):
    """One operation of a network.

    Attributes:
        run: maps the tensors `inputs` to the tensors `outputs`.
        inputs: their names; empty for one that is left out.
        outputs: their names.
        finished: names of the tensors that no later step reads.
    """

    run: Operation
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    finished: tuple[str, ...]


class FrozenNetwork(nn.Module):
    """A network of an ONNX file, from its input (n, c, h, w) to its maps (n, c', h', w').

    Its weights are buffers that are not saved: they come from the file.

    Args:
        graph: of the file.

    Raises:
        SpecError: a setting of an operator that is not supported, or weights that are not float32.
    """

    def __init__(self, graph: "OnnxGraph") -> None:
        super().__init__()
        self._maps = graph.maps
        self._input_name = graph.input_name
        self._buffer_names: dict[str, str] = {}
        steps, problems = [], []
        computed = {graph.input_name}
        for node in graph.nodes:
            inputs, outputs = tensor_inputs(node), tuple(filter(None, node.outputs))
            computed.update(outputs)
            try:
                run = build_operation(node, graph)
                for name in inputs:
                    if name and name not in computed:
                        self._add_weight(name, graph)
            except SpecError as error:
                problems += error.mistakes
                continue
            steps.append(_Step(run, inputs, outputs, ()))
        if problems:
            raise SpecError(problems)
        self._steps = _release_early(steps, graph.maps)

    def _add_weight(self, name: str, graph: "OnnxGraph") -> None:
        if name in self._buffer_names:
            return
        values = graph.constants[name]
        if values.dtype != "float32":
            raise SpecError([f"model.encode: {graph.path}: the weight {name}: expected float32, got {values.dtype}"])
        self._buffer_names[name] = f"weight_{len(self._buffer_names)}"
        self.register_buffer(self._buffer_names[name], torch.from_numpy(values.copy()), persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        tensors = {self._input_name: x}
        for step in self._steps:
            results = step.run(*(self._tensor(name, tensors) for name in step.inputs))
            if isinstance(results, Tensor):
                results = (results,)
            tensors.update(zip(step.outputs, results, strict=True))
            for name in step.finished:
                del tensors[name]
        return [tensors[name] for name in self._maps]

    def _tensor(self, name: str, tensors: dict[str, Tensor]) -> Tensor | None:
        if not name:
            return None
        if name in tensors:
            return tensors[name]
        return self.get_buffer(self._buffer_names[name])


def _release_early(steps: Sequence[_Step], maps: Sequence[str]) -> list[_Step]:
    """Return the steps with the names of the tensors that each is the last to need: a deep network has many large ones."""
    computed: set[str] = set()
    for step in steps:
        computed.update(step.outputs)
    needed, released_steps = set(maps), []
    for step in reversed(steps):
        names = dict.fromkeys((*step.inputs, *step.outputs))
        finished = tuple(names_not_in(names_in(names, computed), needed))
        needed.update(step.inputs)
        released_steps.append(step._replace(finished=finished))
    return released_steps[::-1]


def _resize(x: Tensor, sides: Sequence[int]) -> Tensor:
    """Return images or maps (n, c, h, w) with other sides, interpolated bilinearly."""
    if tuple(x.shape[2:]) == tuple(sides):
        return x
    return F.interpolate(x, list(sides), mode="bilinear", align_corners=False)
