"""Comparison of a frozen network in torch with onnxruntime, before a training, so that no difference goes unseen."""

import numpy as np
import onnx
import torch

from ae_models.errors import SpecError
from ae_models.names import names_not_in, names_of
from ae_models.onnx_encoder import FrozenNetwork
from ae_models.onnx_graph import OnnxGraph, read_onnx_graph
from ae_models.onnx_runtime import onnxruntime
from ae_models.sample_sets import SampleArray
from ae_models.spec import OnnxEncoderSpec

__all__ = ["read_backbone"]

_VERIFIED_BATCHES = 4
_TOLERANCE = 1e-3  # share of a map's largest number by which torch may differ from onnxruntime


def read_backbone(spec: OnnxEncoderSpec, shape: tuple[int, ...]) -> bytes:
    """Return the content of a frozen network's file, once torch and onnxruntime have agreed on random images.

    Args:
        spec: its path is that of the file.
        shape: (c, h, w) of a sample.

    Raises:
        SpecError: as `ae_models.onnx_encoder.OnnxEncoder` raises; a file that onnxruntime refuses; or numbers that differ.
    """
    graph = read_onnx_graph(spec, shape)
    network, session = FrozenNetwork(graph).eval(), _open_maps(graph)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(_VERIFIED_BATCHES, graph.batch, *graph.input_shape, generator=generator)
    for batch in inputs:
        expected_maps = session.run(list(graph.maps), {graph.input_name: batch.numpy()})
        with torch.inference_mode():
            maps = network(batch)
        for name, actual, expected in zip(graph.maps, maps, expected_maps, strict=True):
            _require_equal(graph, name, actual.numpy(), expected)
    return graph.path.read_bytes()


def _require_equal(graph: OnnxGraph, name: str, actual: SampleArray, expected: SampleArray) -> None:
    difference, allowed = np.inf, _TOLERANCE * float(np.abs(expected).max())
    if actual.shape == expected.shape:
        difference = float(np.abs(actual - expected).max())
    if not difference <= allowed:  # so for NaN, too
        found = f"the map {name} differs from that of onnxruntime by {difference:g}, expected at most {allowed:g}"
        remedy = "name an earlier map in maps, or export the network by another version"
        raise SpecError([f"model.encode: {graph.path}: {found}: {remedy}"])


def _open_maps(graph: OnnxGraph) -> "onnxruntime.InferenceSession":
    """Open the file in onnxruntime with the maps as its outputs."""
    model = onnx.load_model_from_string(graph.path.read_bytes())
    for name in names_not_in(graph.maps, names_of(model.graph.output)):
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * 4))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no class
        reason = str(error).strip().splitlines()[0]
        raise SpecError([f"model.encode: {graph.path}: onnxruntime refuses it ({reason}): export it again"]) from error
