"""Which device is chosen and refused, and that nothing is asked of a device which it cannot do."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.engines.utils import IterationEvents
from monai.transforms import Compose
from torch import nn
from torch.optim import Adam
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from common import devices
from common.data import EpochSampler, UnpairedDataset
from common.devices import (
    available_devices,
    check_device,
    communication_backend,
    default_device,
    free_memory,
    has_float64,
    multiplies_bfloat16,
    rank_device,
    to_device,
    use_device,
    without_autocast,
)
from common.engines import TranslationTrainer
from common.engines.translator import VolumeTranslator
from common.inference import TileInferer

from .helpers.devices import WIDE, Imitation, pretend
from .helpers.methods import method
from .helpers.tiny_trainings import CASES, parsed, write_images
from .helpers.translations import OPTIONS, save, sidecars, source, translate

BUNDLES = sorted((Path(__file__).parents[1] / "bundles").iterdir())
KINDS = ("cuda", "xpu", "mps")


@pytest.fixture(autouse=True)
def _said_anew():
    devices._say_once.cache_clear()


# ---- which device


@pytest.mark.parametrize("kind", [*KINDS, None])
def test_the_accelerator_that_pytorch_finds_is_the_default(monkeypatch, kind):
    pretend(monkeypatch, kind)
    assert default_device() == torch.device(kind or "cpu")


@pytest.mark.parametrize("kind", [*KINDS, None])
def test_a_pytorch_without_torch_accelerator_is_asked_for_each_kind(monkeypatch, kind):
    pretend(monkeypatch, kind)
    monkeypatch.delattr(torch, "accelerator")
    assert default_device() == torch.device(kind or "cpu")


def test_an_accelerator_that_was_built_in_but_is_not_there_is_not_taken(monkeypatch):
    pretend(monkeypatch, "cuda")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert default_device() == torch.device("cpu")


@pytest.mark.parametrize(
    ("kind", "count", "expected"),
    [("cuda", 2, ["cuda:0", "cuda:1", "cpu"]), ("xpu", 1, ["xpu:0", "cpu"]), ("mps", 1, ["mps:0", "cpu"])],
)
def test_the_devices_that_are_there_are_listed_and_accepted(monkeypatch, kind, count, expected):
    pretend(monkeypatch, kind, count)
    assert available_devices() == expected
    for name in (*expected, kind, "cpu"):
        assert check_device(name) == check_device(torch.device(name)) == torch.device(name)


@pytest.mark.parametrize(
    ("there", "given", "message"),
    [
        ("cuda", "cuda:2", r"`device` is 'cuda:2', which PyTorch .* does not find. This machine has: cuda:0, cuda:1,"),
        ("cuda", torch.device("cuda", 7), "`device` is 'cuda:7'"),
        ("cuda", "mps", r"`device` is 'mps', .* has: cuda:0, cuda:1, cpu. Give one of these, or leave `device` out"),
        (None, "cuda", r"`device` is 'cuda', .* This machine has: cpu\."),
        (None, "xpu:0", "`device` is 'xpu:0'"),
        ("mps", "mps:1", "`device` is 'mps:1'"),
        (None, "meta", "`device` is 'meta'"),
        (None, "cpu:1", "`device` is 'cpu:1'"),
        ("cuda", "gpu", r"`device` must be 'cpu', 'cuda', 'cuda:1', 'mps' or 'xpu', got 'gpu'\. .* has: cuda:0"),
        ("cuda", 0, "`device` must be .* got 0"),
        ("cuda", None, "`device` must be .* got None"),
    ],
)
def test_an_unknown_or_absent_device_is_refused_with_those_that_are_there(monkeypatch, there, given, message):
    pretend(monkeypatch, there, 2)
    with pytest.raises(ValueError, match=message):
        check_device(given)


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
@pytest.mark.parametrize("name", ["train", "inference"])
def test_a_bundle_takes_what_pytorch_finds_and_any_device_by_its_name(monkeypatch, bundle, name):
    pretend(monkeypatch, "xpu")
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / f"{name}.yaml"))
    assert parser.get_parsed_content("device") == torch.device("xpu")
    parser.update({"device": "cpu", "network_def": nn.Conv2d(1, 1, 1)})
    assert next(parser.get_parsed_content("network").parameters()).device == torch.device("cpu")


def test_each_process_of_a_machine_has_its_own_device(monkeypatch):
    for kind in ("cuda", "xpu"):
        pretend(monkeypatch, kind, 2)
        monkeypatch.setenv("LOCAL_RANK", "1")
        assert rank_device() == torch.device(kind, 1)
        monkeypatch.setenv("LOCAL_RANK", "2")
        with pytest.raises(ValueError, match=rf"Process 2 .* there are 2 \({kind}\)\. Give `--nproc_per_node 2`"):
            rank_device()
        monkeypatch.delenv("LOCAL_RANK")
        assert rank_device() == torch.device(kind, 0)


def test_several_processes_on_a_mac_run_on_its_processor(monkeypatch):
    pretend(monkeypatch, "mps")
    assert rank_device() == torch.device("mps", 0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert rank_device() == torch.device("cpu")


def test_processes_talk_through_what_their_devices_have(monkeypatch):
    there = {"nccl", "xccl", "gloo"}
    monkeypatch.setattr(torch.distributed, "is_backend_available", lambda name: name in there)
    found = {device: communication_backend(device) for device in ("cpu", "cuda:1", "xpu", "mps")}
    assert found == {"cpu": "gloo", "cuda:1": "nccl", "xpu": "xccl", "mps": "gloo"}
    there.remove("nccl")  # Windows has none
    assert communication_backend("cuda") == "gloo"


def test_a_numbered_device_becomes_the_current_one(monkeypatch):
    seen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", seen.append)
    for device in ("cpu", "mps", "cuda", "cuda:1", torch.device("cuda", 0)):
        use_device(device)
    assert seen == [torch.device("cuda", 1), torch.device("cuda", 0)]


# ---- what it cannot do


def test_double_precision_becomes_single_where_there_is_none_and_the_log_says_so_once(caplog):
    values = MetaTensor(torch.arange(3, dtype=torch.float64), affine=torch.eye(4))
    with Imitation("mps") as device, caplog.at_level(logging.WARNING):
        moved = [to_device(values, "mps"), to_device(values + 1, "mps")]
        assert to_device(torch.arange(3), "mps").dtype == torch.int64
        assert to_device(torch.zeros(1, dtype=torch.complex128), "mps").dtype == torch.complex64
    assert [tensor.dtype for tensor in moved] == [torch.float32, torch.float32]
    assert moved[1].tolist() == [1.0, 2.0, 3.0]
    assert device.sent == [torch.float32, torch.float32, torch.int64, torch.complex64]
    assert [record.message for record in caplog.records] == [
        "The device mps has no double precision: torch.float64 becomes torch.float32.",
        "The device mps has no double precision: torch.complex128 becomes torch.complex64.",
    ]


def test_the_stand_in_refuses_what_it_should():
    """Else the tests below could not fail."""
    with Imitation("mps"), pytest.raises(TypeError, match="mps does not support it"):
        torch.zeros(1, dtype=torch.float64).to("mps")
    with Imitation("mps"), pytest.raises(TypeError, match="mps does not support it"):
        nn.Linear(1, 1).double().to(torch.device("mps"))


def test_some_of_intels_devices_have_no_double_precision(monkeypatch):
    pretend(monkeypatch, "xpu")

    class Properties:
        has_fp64 = False

    monkeypatch.setattr(torch.xpu, "get_device_properties", lambda _: Properties)
    assert not has_float64("xpu")
    Properties.has_fp64 = True
    assert has_float64("xpu")
    assert has_float64("cuda")


def test_where_there_is_no_mixed_precision_a_training_goes_on_in_float32(monkeypatch, caplog):
    monkeypatch.setattr(torch.amp, "is_autocast_available", lambda kind: kind != "cpu")
    trained = training(amp=True)
    assert not trained.mixed_precision
    assert "`amp`: PyTorch has no mixed precision for cpu, it stays float32." in caplog.text
    with trained.autocast(), without_autocast(torch.device("cpu")):
        assert (torch.ones(1, 1) @ torch.ones(1, 1)).dtype == torch.float32


def test_bfloat16_is_asked_of_the_device_that_computes(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    monkeypatch.setattr(torch.xpu, "is_bf16_supported", lambda including_emulation: not including_emulation)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    found = {kind: multiplies_bfloat16(kind) for kind in ("cpu", "xpu", "cuda", "mps", "meta")}
    assert found == {"cpu": True, "xpu": True, "cuda": False, "mps": False, "meta": False}


def test_pytorch_has_a_fused_adam_for_every_kind_of_device():
    """So that `fused: true` of the bundles needs no fallback."""
    from torch.utils._foreach_utils import _get_fused_kernels_supported_devices

    assert {"cpu", *KINDS} <= set(_get_fused_kernels_supported_devices())


def test_free_memory_is_the_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (device.index, 9))
    monkeypatch.setattr(torch.xpu, "mem_get_info", lambda device: (_ for _ in ()).throw(RuntimeError("unknown")))
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 100)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 30)
    available: list[int | None] = [50]
    monkeypatch.setattr(devices, "available_memory", lambda: available[0])
    found = {name: free_memory(name) for name in ("cpu", "cuda:3", "xpu", "mps", "meta")}
    assert found == {"cpu": 50, "cuda:3": 3, "xpu": None, "mps": 50, "meta": None}
    for available[0] in (None, 90):
        assert free_memory("mps") == 70


def test_the_system_tells_what_the_processor_has(monkeypatch):
    assert 0 < free_memory("cpu") <= psutil.virtual_memory().total

    def absent():
        raise FileNotFoundError("/proc/meminfo")

    monkeypatch.setattr(psutil, "virtual_memory", absent)
    assert free_memory("cpu") is None


# ---- no double precision on a device that has none


def training(device: str = "cpu", **options) -> TranslationTrainer:
    """One epoch on images that come in double precision."""
    images = [torch.rand(1, 32, 32, dtype=torch.float64) for _ in range(4)]
    dataset = UnpairedDataset(images, images)
    loader = DataLoader(dataset, 2, sampler=EpochSampler(len(dataset)))
    built = method("nec", optimizer=Adam)
    return TranslationTrainer(device, 1, loader, built, progress=False, **options)


def test_a_training_sends_single_precision_to_a_device_without_double(caplog):
    with Imitation("mps") as device:
        training("mps").run()
    assert device.sent
    assert not set(device.sent) & set(WIDE)
    assert caplog.text.count("has no double precision") == 1


def test_a_translation_sends_single_precision_to_a_device_without_double():
    volume = MetaTensor(torch.rand(1, 6, 6, 4, dtype=torch.float64), affine=torch.eye(4))
    same = Compose([])
    with Imitation("mps") as device:
        found = VolumeTranslator(nn.Identity(), same, same, device="mps")(volume, "T2")
    assert device.sent == [torch.float32]
    np.testing.assert_allclose(found, volume, rtol=1e-6)
    with Imitation("mps") as device:
        slabs = TileInferer(2, margin=0).slabs(volume, lambda x: x.repeat(1, 1, 2, 2).float(), device="mps")
        list(slabs)
    assert set(device.sent) == {torch.float32}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """The images of all bundles' tiny trainings, and the stages that others build on."""
    root = tmp_path_factory.mktemp("trainings")
    write_images(root / "images")
    for name in ("nect_classifier", "nect_removal"):
        parser = parsed(name, root, root / "single" / name, max_epochs=1, classifier_epochs=1, samples_per_epoch=4)
        parser.get_parsed_content("train#trainer").run()
    return root


class Made(TorchDispatchMode):
    """The types of all that is computed between an iteration's start and its end, the backward passes included."""

    def __init__(self) -> None:
        super().__init__()
        self.types: set[torch.dtype] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.types |= {leaf.dtype for leaf in _pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)}
        return result

    def attach(self, trainer: TranslationTrainer) -> None:
        trainer.add_event_handler(Events.ITERATION_STARTED, lambda _: self.__enter__())
        trainer.add_event_handler(IterationEvents.MODEL_COMPLETED, lambda _: self.__exit__(None, None, None))


@pytest.mark.parametrize("name", CASES)
def test_a_bundles_training_needs_no_double_precision(root, tmp_path, name, caplog):
    """Nothing of it is sent to the device, from the files to the networks, and nothing is computed there."""
    lengths = {"max_epochs": 1, "samples_per_epoch": 4} | ({"classifier_epochs": 1} if name.startswith("nect") else {})
    made = Made()
    with Imitation("mps") as device:
        trainer = parsed(name, root, tmp_path, device="mps", **lengths).get_parsed_content("train#trainer")
        made.attach(trainer)
        trainer.run()
    assert torch.float32 in device.sent
    assert torch.float32 in made.types
    assert not {*device.sent, *made.types} & set(WIDE)
    assert "has no double precision" not in caplog.text


@pytest.mark.parametrize("bundle", OPTIONS)
@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_a_bundles_translation_needs_no_double_precision(monkeypatch, tmp_path, bundle, precision, caplog):
    """With its own weights, from preflight to the file that is written; `fast` stays in float32."""
    pretend(monkeypatch, "mps")
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 2**30)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 0)
    image = save(tmp_path / "in.nii.gz", *source(bundle))
    with Imitation("mps") as device:
        translate(bundle, image, tmp_path / "out", device="mps", precision=precision)
    assert torch.float32 in device.sent
    assert not set(device.sent) & {*WIDE, torch.bfloat16}
    assert "has no double precision" not in caplog.text
    ((_, facts),) = sidecars(tmp_path / "out").items()
    assert facts["precision"] == {"asked": precision, "body": "float32"}
    assert facts["run"]["gpu"] == "mps"


def test_a_method_that_computes_in_double_precision_is_seen():
    def doubled(layer: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        return output.double().float()

    made = Made()
    with Imitation("mps"):  # its images come in double precision, which only such a device is not given
        trainer = training("mps")
        made.attach(trainer)
        trainer.method.generator.register_forward_hook(doubled)
        trainer.run()
    assert torch.float64 in made.types
