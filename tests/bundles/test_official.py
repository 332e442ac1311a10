"""`official.yaml` of each bundle is the released code: one training step, numbers of parameters, receptive fields.

The step is compared twice with `tests/helpers/released_*.py`, an independent replay of the released code's: the replay
with numbers that the released code itself gave (`tests/helpers/released_steps.json`), and the bundle's configs with the
replay, gradient by gradient.
"""

from __future__ import annotations

import copy
from functools import cache

import monai
import pytest
import torch
from monai.bundle import ConfigParser
from torch.testing import assert_close

from common.convert_ggcl import discriminator_from_released, generator_from_released
from common.data import PatchVolume, UnpairedPatchDataset
from common.networks import PatchDiscriminatorPyramid
from tests.helpers import released_ggcl, released_nec, released_sr
from tests.helpers.bundles import ROOT
from tests.helpers.released_steps import (
    VALUES,
    RecordedStep,
    fill,
    fill_power_vectors,
    given_draws,
    gradient,
    image,
    receptive_field,
    summary,
)


def official(bundle: str, **overrides: object) -> ConfigParser:
    folder = ROOT / "bundles" / bundle
    parser = ConfigParser()
    parser.read_config([str(folder / "configs" / f"{name}.yaml") for name in ("train", "official")])
    parser.update({"bundle_root": str(folder), "device": "cpu", **overrides})
    return parser


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def assert_values(losses: dict, gradients: dict, expected: dict) -> None:
    """Loss terms and gradients are those that the released code gave."""
    for name, value in expected["losses"].items():
        assert float(losses[name].detach()) == pytest.approx(value, rel=1e-5), name
    for name, values in expected["gradients"].items():
        assert summary(gradients[name]) == pytest.approx(values, rel=2e-4), name


def assert_equal_steps(losses: dict, gradients: dict, recorded: dict, step: RecordedStep) -> None:
    """The bundle's losses and gradients are the replay's."""
    for name, value in losses.items():
        assert_close(recorded[name].detach(), value.detach(), rtol=1e-5, atol=1e-6, msg=name)
    for name, vector in gradients.items():
        difference = (step.gradients[name] - vector).norm() / vector.norm()
        assert difference < 1e-4, f"{name}: {difference}"


NEC_STEPS = {1: "autoencoding", 2: "translation"}  # by epoch


def nec_networks():
    generator = monai.networks.nets.UNet(
        2, 1, 1, channels=VALUES["nec"]["widths"], strides=(2, 2), num_res_units=18
    )  # the released code takes MONAI's, at 8 levels
    return fill(generator, 1), fill(released_nec.Discriminator(), 2)


@cache
def nec_replay(epoch: int):
    networks = dict(zip(("generator", "discriminator"), nec_networks()))
    source, target = image(1, 2, 1, 64, 64), image(2, 2, 1, 64, 64)
    losses = released_nec.step(*networks.values(), source, target, autoencoding=epoch == 1)
    return losses, {name: gradient(network) for name, network in networks.items()}


@pytest.mark.parametrize("epoch", NEC_STEPS)
def test_the_replay_of_nec_is_its_released_code(epoch):
    assert_values(*nec_replay(epoch), VALUES["nec"][NEC_STEPS[epoch]])


@pytest.mark.parametrize("epoch", NEC_STEPS)
def test_a_step_of_nec_is_the_released_codes(epoch):
    parser = official("nec_t1t2", **{"network_def#channels": VALUES["nec"]["widths"]})
    method = parser.get_parsed_content("method")
    fill(method.generator, 1)
    fill(method.discriminator, 2)
    step = RecordedStep(method, epoch=epoch)
    recorded = method(step, {"source": image(1, 2, 1, 64, 64), "target": image(2, 2, 1, 64, 64)})
    assert_equal_steps(*nec_replay(epoch), recorded, step)
    (group,) = method.optimizers["generator"].param_groups
    assert (group["lr"], list(group["betas"])) == (1e-4, [0.9, 0.999])


def test_halved_the_joint_step_goes_elsewhere():
    """What `adversarial_loss#halve` is for: halving D's loss turns the gradient that D gets from both losses."""
    cosines = []
    for halve in (False, True):
        overrides = {"network_def#channels": VALUES["nec"]["widths"], "adversarial_loss#halve": halve}
        method = official("nec_t1t2", **overrides).get_parsed_content("method")
        fill(method.generator, 1)
        fill(method.discriminator, 2)
        step = RecordedStep(method)
        method(step, {"source": image(1, 2, 1, 64, 64), "target": image(2, 2, 1, 64, 64)})
        vectors = [step.gradients["discriminator"].double(), nec_replay(2)[1]["discriminator"].double()]
        cosines.append(float(torch.cosine_similarity(*vectors, dim=0)))
    assert cosines[0] == pytest.approx(1, abs=1e-6)
    assert cosines[1] == pytest.approx(0.94, abs=0.01)


def test_nec_has_the_released_codes_sizes():
    parser = official("nec_t1t2")
    with torch.device("meta"):
        generator = parser.get_parsed_content("network_def")
    discriminator = parser.get_parsed_content("discriminator_def")
    sizes = {"generator": count(generator), "discriminator": count(discriminator)}
    assert sizes == VALUES["nec"]["parameters"] == {"generator": 258_479_720, "discriminator": 5_265_154}
    replay = released_nec.Discriminator()
    assert receptive_field(replay, 128) == 34
    assert receptive_field(discriminator, 128) == 34


def test_the_official_discriminator_of_nec_starts_as_torch_does():
    torch.manual_seed(0)
    discriminator = official("nec_t1t2").get_parsed_content("discriminator_def")
    widest = copy.deepcopy(discriminator).scales[0].get_submodule("1").conv.weight  # 256 x 16 inputs
    assert float(widest.detach().abs().max()) == pytest.approx((256 * 16) ** -0.5, rel=1e-3)


def test_the_papers_three_layers_and_three_scales_have_three_readings():
    """Ours, the author's class with the paper's numbers, and the class that the paper names."""
    ours = PatchDiscriminatorPyramid()
    authors = PatchDiscriminatorPyramid(num_layers=1, bias=True, pool_size=3, init="torch")
    assert (count(ours), count(authors)) == (8_285_379, 403_011)
    assert count(released_nec.Discriminator(scales=3, width=64, convolutions=3)) == 403_011
    assert (receptive_field(ours, 128), receptive_field(authors, 128)) == (70, 16)
    with pytest.raises(AssertionError):
        monai.networks.nets.MultiScalePatchDiscriminator(
            num_d=3, num_layers_d=3, spatial_dims=2, channels=64, in_channels=1, minimum_size_im=256
        )


SR = VALUES["sr"]
SR_NETWORKS = ("generator", "back_generator", "target_discriminator", "source_discriminator")


@cache
def sr_replay():
    widths = {"width": SR["width"], "blocks": SR["blocks"]}
    generators = released_sr.finer(**widths), released_sr.coarser(**widths)
    built = (*generators, *(released_sr.patches(SR["width"]) for _ in range(2)))
    networks = {name: fill(network, i + 1) for i, (name, network) in enumerate(zip(SR_NETWORKS, built))}
    losses = released_sr.step(networks, image(1, 1, 1, 32, 32), image(2, 1, 1, 256, 256))
    return losses, {name: gradient(network) for name, network in networks.items()}


def test_the_replay_of_sr_cyclegan_is_its_released_code():
    assert_values(*sr_replay(), SR["translation"])


def test_a_step_of_sr_cyclegan_is_the_released_codes():
    sizes = {"channels": SR["width"], "num_res_blocks": SR["blocks"], "discriminator_channels": SR["width"]}
    method = official("sr_cyclegan", **sizes).get_parsed_content("method")
    for i, name in enumerate(SR_NETWORKS):
        fill(method.networks[name], i + 1)
    step = RecordedStep(method)
    recorded = method(step, {"source": image(1, 1, 1, 32, 32), "target": image(2, 1, 1, 256, 256)})
    assert_equal_steps(*sr_replay(), recorded, step)
    for optimizer in method.optimizers.values():
        (group,) = optimizer.param_groups
        assert (group["lr"], list(group["betas"])) == (1e-5, [0.5, 0.999])


def test_sr_cyclegan_has_the_released_codes_sizes():
    parser = official("sr_cyclegan")
    method = parser.get_parsed_content("method")
    assert {name: count(method.networks[name]) for name in SR_NETWORKS} == SR["parameters"]
    assert SR["parameters"]["back_generator"] == 12_936_769
    assert (count(released_sr.finer()), count(released_sr.coarser())) == (802_222, 12_936_769)
    for discriminator in (released_sr.patches(), method.target_discriminator, method.source_discriminator):
        assert receptive_field(discriminator, 128) == SR["receptive_field"] == 70


def test_all_convolutions_of_official_sr_cyclegan_start_as_in_cyclegan():
    """Normal with SD 0.02, and no bias."""
    torch.manual_seed(0)
    method = official("sr_cyclegan").get_parsed_content("method")
    for network in method.networks.values():
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                assert not module.bias.any()
                if module.weight.numel() > 10_000:
                    assert float(module.weight.detach().std()) == pytest.approx(0.02, rel=0.05)


def test_every_fourth_clinical_patch_of_official_sr_cyclegan_is_read_from_a_spline():
    parser = official("sr_cyclegan")
    options = {"downsampling": parser["train#dataset#downsampling"]}
    volumes = [PatchVolume(image(n, 1, 1, 300, 280)[0][..., None]) for n in (1, 2)]
    data = UnpairedPatchDataset(*([v] for v in volumes), downsampled_every=parser["downsampled_every"], **options)
    for index in (0, 4):
        item = data[1, index]
        expected = released_sr.reduced(item["target"][0].numpy())
        assert_close(item["source"][0], torch.from_numpy(expected), rtol=0, atol=1e-5)
    assert data[1, 1]["source"].shape == (1, 32, 32)


KERNELS = {  # bundle: released code, pooling of the compared features, weights of contrast and cosine
    "ggcl": ("ggcl", 2, (2, 0)),
    "kcgan_kernel_conversion": ("kc_unit", 1, (1, 5)),
}
SIDE, KERNEL = 256, torch.tensor([0, 2])


def kernel_networks():
    generator = fill(released_ggcl.GuidedGenerator(4, blocks=1), 1)
    return generator, fill_power_vectors(fill(released_ggcl.GuidedDiscriminator(SIDE, 2), 2))


@cache
def kernel_replay(bundle: str):
    _, pool, weights = KERNELS[bundle]
    with given_draws():
        return released_ggcl.guided_step(
            *kernel_networks(), image(1, 2, 1, SIDE, SIDE), KERNEL, pool=pool, weights=weights
        )


@pytest.mark.parametrize("bundle", KERNELS)
def test_the_replay_of_a_kernel_bundle_is_its_released_code(bundle):
    assert_values(*kernel_replay(bundle), VALUES[KERNELS[bundle][0]]["iteration"])


@pytest.mark.parametrize("bundle", KERNELS)
def test_an_iteration_of_a_kernel_bundle_is_the_released_codes(bundle):
    sizes = {"channels": 4, "discriminator_channels": 2, "num_res_blocks": 1, "image_size": SIDE}
    parser = official(bundle, **sizes)
    method = parser.get_parsed_content("method")
    states = [network.state_dict() for network in kernel_networks()]
    method.generator.load_state_dict(generator_from_released(states[0]).state_dict())
    method.discriminator.load_state_dict(discriminator_from_released(states[1]).state_dict())
    step = RecordedStep(method, step=5)  # the fifth: the generator's turn
    with given_draws():
        recorded = method(step, {"image": image(1, 2, 1, SIDE, SIDE), "domain": KERNEL})
    losses, gradients = kernel_replay(bundle)
    losses = {**losses, "guidance": losses["guided"] / method.guidance_weight}
    del losses["guided"]
    assert_equal_steps(losses, gradients, recorded, step)
    for optimizer in method.optimizers.values():
        (group,) = optimizer.param_groups
        assert (group["lr"], list(group["betas"])) == (1e-4, [0.5, 0.999])
    assert parser.get_parsed_content("lr_schedulers") == []
    iterations = parser["max_epochs"] * parser["samples_per_epoch"] / parser["batch_size"]
    assert (iterations, parser["critic_steps"]) == (400_000, 5)


@pytest.mark.parametrize("bundle", KERNELS)
def test_kernel_bundles_have_the_released_codes_sizes(bundle):
    parser = official(bundle)
    with torch.device("meta"):
        sizes = {
            name: count(parser.get_parsed_content(f"{key}_def"))
            for name, key in (("generator", "network"), ("discriminator", "discriminator"))
        }
    assert sizes == VALUES[KERNELS[bundle][0]]["parameters"] == {"generator": 9_230_912, "discriminator": 58_874_336}
