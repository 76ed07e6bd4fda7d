"""A frozen network of a file as an encoder: which maps it gives, how it is trained on, carried and loaded, and bad files."""

import dataclasses
import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from frozen_backbone import export_network, trained_network, write_backbone
from safetensors.numpy import load_file
from torch import nn

from ae_models import checkpoint
from ae_models.__main__ import main
from ae_models.autoencoder import Autoencoder
from ae_models.bundle import load_bundle
from ae_models.encoders import OnnxEncoder
from ae_models.errors import BundleError, SpecError
from ae_models.lightning_module import AutoencoderModule
from ae_models.onnx_graph import read_onnx_graph
from ae_models.onnx_verification import read_backbone
from ae_models.spec import FitSpec, GanomalyCriticSpec, IdentityBottleneckSpec, OnnxEncoderSpec
from ae_models.training_result import load_training
from aeops.bundle.detector import Detector

DIGIT = (1, 28, 28)


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("backbone") / "backbone.onnx")


@pytest.fixture(scope="session")
def frozen_spec(spec: FitSpec, backbone: Path) -> FitSpec:
    sha256 = hashlib.sha256(backbone.read_bytes()).hexdigest()
    encode = {"kind": "onnx", "path": str(backbone), "path_sha256": sha256, "mean": [0.1], "std": [0.3], "width": 4}
    document = spec.to_dict()
    document["model"]["encode"] = encode
    document["train"] |= {"epochs": 2}
    document["score"] = {"kind": "patch-bank", "rows": 200, "neighbours": 5}
    return FitSpec.from_dict(document, "spec.json")


@pytest.fixture(scope="session")
def frozen(frozen_spec: FitSpec, fit_into: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return fit_into(frozen_spec, tmp_path_factory.mktemp("frozen"))


def graph_of(file: Path, shape: tuple[int, ...] = DIGIT, **settings: Any) -> Any:
    return read_onnx_graph(OnnxEncoderSpec(str(file), **settings), shape)


def make_encoder(file: Path, shape: tuple[int, ...] = DIGIT, size: int = 5, **settings: Any) -> OnnxEncoder:
    spec = OnnxEncoderSpec(str(file), **settings)
    return OnnxEncoder(**{field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}, shape=shape, size=size)


# ---------------------------------------------------------------- maps


def test_the_backbone_of_these_tests_has_learnt_to_read_digits() -> None:
    assert trained_network()[1] > 0.85


def test_the_maps_of_a_classifier_are_the_last_ones_of_its_two_coarsest_grids(backbone: Path) -> None:
    graph = graph_of(backbone)
    assert graph.map_shapes() == [(8, 14, 14), (16, 7, 7)]
    assert {node.operator for node in graph.nodes} == {"Conv", "Relu"}  # neither Flatten nor Gemm


class Residual(nn.Module):
    """A block with a shortcut: no tensor inside it is all that is passed on."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, stride, 1)
        self.shortcut = nn.Conv2d(4, 4, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.last(self.first(x).relu()) + self.shortcut(x)).relu()


def test_no_map_is_chosen_from_inside_a_block_and_none_that_is_too_coarse(tmp_path: Path) -> None:
    layers = [nn.Conv2d(1, 4, 3, 2, 1), *(Residual(2) for _ in range(4)), nn.Flatten(), nn.Linear(4 * 9, 2)]
    file = export_network(nn.Sequential(*layers).eval(), tmp_path / "residual.onnx", (1, 96, 96))
    graph = graph_of(file, (1, 96, 96))
    assert graph.map_shapes() == [(4, 12, 12), (4, 6, 6)]  # strides 8 and 16; the last grid has a stride of 32
    producers = {output: node.operator for node in graph.nodes for output in node.outputs}
    assert [producers[name] for name in graph.maps] == ["Relu", "Relu"]
    last_nodes = [node for node in graph.nodes if graph.maps[0] in node.outputs]
    assert producers[last_nodes[0].inputs[0]] == "Add"  # the end of a block, not the ReLU inside the next one


def test_a_network_that_ends_in_maps_gives_these(tmp_path: Path) -> None:
    file = export_network(nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU()), tmp_path / "trunk.onnx")
    assert graph_of(file).map_shapes() == [(4, 14, 14)]


def test_maps_are_brought_to_the_size_of_the_finest_and_put_side_by_side(backbone: Path) -> None:
    encoder = make_encoder(backbone, mean=(0.2,), std=(0.5,))
    x = torch.rand(3, *DIGIT)
    with torch.inference_mode():
        output, features = encoder.forward_with_features(x)
        network = trained_network()[0]
        fine = network[:3]((x - 0.2) / 0.5)
        coarse = nn.functional.interpolate(network[3:6](fine), [14, 14], mode="bilinear")
        assert torch.equal(output, encoder(x))
    assert output.shape == (3, 5)
    torch.testing.assert_close(features, torch.cat([fine, coarse], 1), rtol=1e-4, atol=1e-4)


def test_named_maps_are_taken_as_they_are_named(backbone: Path) -> None:
    first, second = graph_of(backbone).maps
    assert make_encoder(backbone, maps=(second,)).features(torch.rand(2, *DIGIT)).shape == (2, 16, 7, 7)
    assert make_encoder(backbone, maps=(second, first)).features(torch.rand(2, *DIGIT)).shape == (2, 24, 14, 14)


def test_one_channel_is_repeated_and_images_are_resized_to_what_the_network_reads(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU())
    file = export_network(network, tmp_path / "colour.onnx", (3, 32, 24))
    encoder = make_encoder(file, resize=(32, 24), mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 2.0))
    x = torch.rand(2, *DIGIT)
    resized = nn.functional.interpolate(x, [32, 24], mode="bilinear").repeat(1, 3, 1, 1)
    scaled = (resized - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 0.5, 2.0]).view(3, 1, 1)
    torch.testing.assert_close(encoder.features(x), network(scaled), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("open_axes", [{0: "n", 2: "h", 3: "w"}, {2: "h", 3: "w"}])
def test_a_file_that_leaves_sizes_open_takes_any_and_its_batch_binds_nobody(open_axes: dict[int, str], tmp_path: Path) -> None:
    layers = [nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(6, 3)).eval()
    file = export_network(network, tmp_path / "open.onnx", open_axes=open_axes)
    for shape, grids in (((1, 28, 28), [(4, 14, 14), (6, 7, 7)]), ((1, 40, 33), [(4, 20, 17), (6, 10, 9)])):
        assert graph_of(file, shape).map_shapes() == grids
        assert read_backbone(OnnxEncoderSpec(str(file)), shape)
        assert make_encoder(file, shape).features(torch.rand(3, *shape)).shape == (3, 10, *grids[0][1:])


# ---------------------------------------------------------------- training


@pytest.mark.slow
def test_the_network_stays_as_it_is_and_what_is_built_on_it_learns(frozen_spec: FitSpec, frozen: Any) -> None:
    torch.manual_seed(frozen_spec.train.seed)
    fresh = Autoencoder(frozen_spec.model, frozen_spec.input)
    trained = load_bundle(frozen.bundle).scorer.autoencoder
    assert not [name for name, _ in fresh.named_parameters() if "network" in name]
    assert not [name for name in fresh.state_dict() if "network" in name]
    assert {name.partition(".")[0] for name in fresh.encode.state_dict()} == {"reduce", "dense"}
    for name, value in fresh.encode.named_buffers():
        assert torch.equal(value, dict(trained.encode.named_buffers())[name])
    for name, value in fresh.named_parameters():
        assert not torch.equal(value, trained.state_dict()[name]), name


def test_the_reconstruction_is_learnt_on_top_of_it(frozen: Any) -> None:
    lines = (frozen.history / "history.csv").read_text().splitlines()
    column = lines[0].split(",").index("validation_error")
    first, last = (float(line.split(",")[column]) for line in (lines[1], lines[-1]))
    assert last < first


def test_a_critic_of_the_same_kind_reaches_the_reconstruction_through_frozen_weights(frozen_spec: FitSpec) -> None:
    critic = GanomalyCriticSpec(features=6)
    model = dataclasses.replace(frozen_spec.model, critic=critic, bottleneck=IdentityBottleneckSpec(6))
    autoencoder = Autoencoder(model, frozen_spec.input)
    autoencoder.loss(torch.rand(4, *DIGIT)).backward()
    gradients = {name: parameter.grad for name, parameter in autoencoder.named_parameters()}
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients.values())


def test_training_and_bundle_carry_the_file_and_name_its_content(backbone: Path, frozen_spec: FitSpec, frozen: Any) -> None:
    document = json.loads((frozen.bundle / "bundle.json").read_text())
    assert document["data"]["backbone_sha256"] == frozen_spec.model.encode.path_sha256
    for folder in (frozen.history, frozen.bundle):
        assert (folder / "backbone.onnx").read_bytes() == backbone.read_bytes()
        assert f"{document['data']['backbone_sha256']}  backbone.onnx" in (folder / "SHA256SUMS").read_text()
        assert not [name for name in load_file(folder / "weights.safetensors") if "network" in name]


def test_the_bundle_is_one_graph_that_answers_as_torch_does_without_the_users_file(
    frozen: Any, digits: np.ndarray, backbone: Path
) -> None:
    moved = backbone.rename(backbone.with_suffix(".away"))
    try:
        scorer = load_bundle(frozen.bundle).scorer
        training = load_training(frozen.history)
    finally:
        moved.rename(backbone)
    assert training.backbone == backbone.read_bytes()
    session = onnxruntime.InferenceSession(str(frozen.bundle / "model.onnx"), providers=["CPUExecutionProvider"])
    for rows in (1, 3, 64):
        raw = digits[:rows].astype(np.float32)
        outputs = dict(zip(scorer.output_names, session.run(list(scorer.output_names), {"input": raw}), strict=True))
        with torch.inference_mode():
            expected = dict(zip(scorer.output_names, scorer(torch.from_numpy(raw)), strict=True))
        for name in scorer.output_names:
            np.testing.assert_allclose(outputs[name], expected[name].numpy(), rtol=1e-3, atol=1e-3, err_msg=name)
        np.testing.assert_allclose(outputs["score"], expected["score"].numpy(), atol=1e-4)
    assert {node.domain for node in onnx.load(frozen.bundle / "model.onnx").graph.node} == {""}


def test_an_explanation_shows_which_pixels_are_far_from_normal(frozen: Any, digits: np.ndarray) -> None:
    detector = Detector(frozen.bundle)
    faulty = digits[:4].copy()
    faulty[:, :, 20:25, 3:8] = 255
    maps = []
    for samples in (digits[:4], faulty):
        checked = detector.check(samples)
        explanations = detector.explain(checked.model_input, detector.score_checked(checked, explanation=True))
        maps.append(np.array([explanation["pixel_map"] for explanation in explanations]))
    rise = maps[1] - maps[0]
    assert rise.shape == (4, 28, 28)
    assert (rise[:, 16:, :12].max((1, 2)) > np.abs(rise[:, :8, 20:]).max((1, 2)) + 0.01).all()


def test_a_bundle_whose_network_was_altered_is_refused(frozen: Any, tmp_path: Path) -> None:
    copied = shutil.copytree(frozen.bundle, tmp_path / "bundle")
    (copied / "backbone.onnx").write_bytes((copied / "backbone.onnx").read_bytes() + b" ")
    with pytest.raises(BundleError, match=r"backbone\.onnx was altered"):
        load_bundle(copied)


@pytest.mark.slow
def test_a_training_that_is_stopped_and_resumed_ends_in_the_same_bundle(
    frozen_spec: FitSpec, frozen: Any, fit_into: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "MIN_SECONDS_BETWEEN", 0.0)
    step, steps = AutoencoderModule.train_step, []

    def stop_in_the_second_epoch(module: AutoencoderModule, step_of_epoch: int) -> None:
        steps.append(step_of_epoch)
        if len(steps) == 8:
            raise OSError("stopped")
        step(module, step_of_epoch)

    with monkeypatch.context() as stopping:
        stopping.setattr(AutoencoderModule, "train_step", stop_in_the_second_epoch)
        with pytest.raises(OSError, match="stopped"):
            fit_into(frozen_spec, tmp_path)
    resumed = fit_into(frozen_spec, tmp_path)
    assert (resumed.bundle / "SHA256SUMS").read_text() == (frozen.bundle / "SHA256SUMS").read_text()


@pytest.mark.slow
def test_on_a_bare_machine_the_path_begins_at_the_folder_of_the_spec(
    frozen_spec: FitSpec,
    backbone: Path,
    digits: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    document = frozen_spec.to_dict()
    document["model"]["encode"]["path"] = "networks/backbone.onnx"
    document["train"]["epochs"] = 1
    (tmp_path / "networks").mkdir()
    (tmp_path / "networks" / "backbone.onnx").write_bytes(backbone.read_bytes())
    (tmp_path / "spec.json").write_text(json.dumps(document))
    command = ["ae_models", "fit", "--spec", str(tmp_path / "spec.json"), "--out", str(tmp_path / "bundle")]
    for name, part in (("train", digits[:320]), ("validation", digits[320:384]), ("calibration", digits[384:])):
        np.save(tmp_path / f"{name}.npy", part)
        command += [f"--{name}", str(tmp_path / f"{name}.npy")]
    command += ["--history", str(tmp_path / "history"), "--checkpoints", str(tmp_path / "checkpoints")]
    monkeypatch.setattr(sys, "argv", command)
    main()
    assert json.loads((tmp_path / "bundle" / "bundle.json").read_text())["model"]["encode"]["path"] == "networks/backbone.onnx"
    (tmp_path / "networks" / "backbone.onnx").write_bytes(b"altered")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main()
    assert "expected SHA-256" in capsys.readouterr().err


# ---------------------------------------------------------------- bad files and settings


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((1, 32, 28), {}, r"expected images of 28 x 28 pixels, as the network reads, got 32 x 28 \(input.shape\)"),
        (DIGIT, {"resize": (32, 32)}, r"got 32 x 32 \(resize\): write resize: \[28, 28\]"),
        ((2, 28, 28), {}, "expected samples of 1 channels, as the network reads, or of one, got 2"),
        (DIGIT, {"mean": (0.1, 0.2)}, "mean: expected 1 number or 1, one a channel of the network, got 2"),
        (DIGIT, {"maps": ("/2/Relu_output",)}, r"got '/2/Relu_output': did you mean /2/Relu_output_0\?"),
        (DIGIT, {"maps": ("output",)}, r"maps: expected names of tensors \(n, c, height, width\)"),
        (DIGIT, {"path_sha256": "0" * 64}, r"expected SHA-256 000000000000\.\.\. \(path_sha256\), got "),
    ],
)
def test_a_network_that_does_not_suit_the_samples_says_what_does(
    backbone: Path, shape: tuple[int, ...], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message) as error:
        graph_of(backbone, shape, **settings)
    assert f"model.encode: {backbone}: " in str(error.value)


def test_a_network_of_the_wrong_input_size_is_refused_before_anything_is_trained(
    frozen_spec: FitSpec, fit_into: Callable[..., Any], tmp_path: Path
) -> None:
    encode = dataclasses.replace(frozen_spec.model.encode, resize=(20, 20))
    spec = dataclasses.replace(frozen_spec, model=dataclasses.replace(frozen_spec.model, encode=encode))
    with pytest.raises(SpecError, match=r"expected images of 28 x 28 pixels, as the network reads, got 20 x 20"):
        fit_into(spec, tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def bytes_of(change: Callable[[onnx.ModelProto], None], backbone: Path) -> bytes:
    model = onnx.load(backbone)
    change(model)
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: b"no network at all, but a text", "expected an ONNX file, got something else"),
        (lambda file: b"", "got one without a node"),
        (lambda file: file.read_bytes()[:-3000], "expected an ONNX file, got something else|it is no valid ONNX"),
        (
            lambda file: bytes_of(lambda model: model.opset_import[0].__setattr__("version", 9), file),
            "expected operators of opset 11 or later, got 9",
        ),
        (
            lambda file: bytes_of(lambda model: model.graph.input[0].type.tensor_type.__setattr__("elem_type", 11), file),
            r"expected the input float32 \(n, channels, height, width\), got double with 4 axes",
        ),
        (
            lambda file: bytes_of(lambda model: model.graph.input.append(model.graph.output[0]), file),
            "expected one input, got 2: image, output|it is no valid ONNX",
        ),
        (
            lambda file: bytes_of(lambda model: model.graph.initializer[0].__setattr__("data_location", 1), file),
            "its weights lie in another file: save it as one",
        ),
    ],
)
def test_a_file_that_is_no_such_network_is_refused(
    backbone: Path, change: Callable[[Path], bytes], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "bad.onnx"
    file.write_bytes(change(backbone))
    with pytest.raises(SpecError, match=message):
        graph_of(file)
    with pytest.raises(SpecError, match=r"which cannot be read \(No such file or directory\)"):
        graph_of(tmp_path / "none.onnx")


def test_every_mistake_of_the_settings_is_said_at_once(spec: FitSpec) -> None:
    document = spec.to_dict()
    document["model"]["encode"] = {
        "kind": "onnx",
        "path": "x.onnx",
        "path_sha256": "abc",
        "maps": ["a", "a"],
        "resize": [28],
        "mean": [],
    }
    with pytest.raises(SpecError) as error:
        FitSpec.from_dict(document, "spec.json")
    for message in ("path_sha256: expected 64 digits", "maps: expected different names", "resize: expected [height, width]"):
        assert message in str(error.value)
    assert "mean: expected one number, or one a channel, got none" in str(error.value)
