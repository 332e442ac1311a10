"""FastCUT, DCLGAN and UNIT: the losses against numpy, and which network learns from which term."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.testing import assert_close

from common.losses import AdversarialLoss, PatchNCELoss
from common.methods import UNIT, ContrastiveUnpairedTranslation, DualContrastiveTranslation, TranslationMethod, unit
from common.networks import (
    PatchDiscriminatorPyramid,
    PatchFeatureMLP,
    ResNetGenerator,
    UNITBackGenerator,
    UNITGenerator,
)
from tests.helpers.methods import RecordingTrainer

SIZE = 24
TEMPERATURE = 0.07
G, BACK, D, D_TARGET, D_SOURCE = (
    "generator",
    "back_generator",
    "discriminator",
    "target_discriminator",
    "source_discriminator",
)
H, H_SOURCE, H_TARGET = "patch_features", "source_features", "target_features"
# in the order of the updates
ROUTES = {
    "fastcut": [{D}, {G, H}],
    "dclgan": [{D_TARGET, D_SOURCE}, {G, BACK, H_SOURCE, H_TARGET}],
    "unit": [{D_TARGET, D_SOURCE}, {G, BACK}],
}
BOTH, EMBEDDINGS = {G, BACK}, {H_SOURCE, H_TARGET}
# UNIT's shared blocks belong to the generator
LEARNERS = {
    "fastcut": {"adversarial": {G}, "contrastive": {G, H}, "discriminator": {D}},
    "dclgan": {
        "adversarial": BOTH,
        "contrastive": BOTH | EMBEDDINGS,
        "identity": BOTH,
        "discriminator": {D_TARGET, D_SOURCE},
    },
    "unit": {
        **dict.fromkeys(["adversarial", "reconstruction", "kl", "cycle", "cycle_kl"], BOTH),
        "discriminator": {D_TARGET, D_SOURCE},
    },
}
PICTURES = {"real_source", "fake_target", "real_target"}


def sgd(*networks: nn.Module) -> SGD:
    return SGD([p for network in networks for p in network.parameters()], lr=1e-2)


def judge(num_scales: int = 1) -> PatchDiscriminatorPyramid:
    return PatchDiscriminatorPyramid(num_scales=num_scales, channels=4, num_layers=1)


def resnet() -> ResNetGenerator:
    return ResNetGenerator(channels=4, num_res_blocks=2, antialias=True)


def embedding(channels: list[int]) -> PatchFeatureMLP:
    return PatchFeatureMLP(channels, out_channels=8, num_patches=0)  # all places: nothing is drawn


def two_domain_method(name: str, **options: float) -> TranslationMethod:
    torch.manual_seed(0)
    adversarial, contrastive = AdversarialLoss("least_squares"), PatchNCELoss(TEMPERATURE)
    if name == "fastcut":
        generator, discriminator = resnet(), judge()
        features = embedding(generator.encode_channels)
        return ContrastiveUnpairedTranslation(
            generator,
            discriminator,
            patch_features=features,
            generator_optimizer=sgd(generator),
            discriminator_optimizer=sgd(discriminator),
            features_optimizer=sgd(features),
            adversarial_loss=adversarial,
            contrastive_loss=contrastive,
            **{"contrastive_weight": 10.0, "identity_weight": 0.0, "flip_equivariance": True, **options},
        )
    if name == "unit":
        sizes = {"channels": 4, "num_res_blocks": 1}
        networks, judges = (UNITGenerator(**sizes), UNITBackGenerator(**sizes)), (judge(2), judge(2))
        extra: dict = {}
    else:
        networks, judges = (resnet(), resnet()), (judge(), judge())
        embeddings = [embedding(networks[0].encode_channels[1:]) for _ in range(2)]
        extra = {
            "source_features": embeddings[0],
            "target_features": embeddings[1],
            "features_optimizer": sgd(*embeddings),
            "contrastive_loss": contrastive,
        }
    method = UNIT if name == "unit" else DualContrastiveTranslation
    return method(
        *networks,
        target_discriminator=judges[0],
        source_discriminator=judges[1],
        generator_optimizer=sgd(*networks),
        discriminator_optimizer=sgd(*judges),
        adversarial_loss=adversarial,
        **extra,
        **options,
    )


def batch(size: int = 2) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return {name: torch.rand(size, 1, SIZE, SIZE, generator=random) * 2 - 1 for name in ("source", "target")}


class TermTrainer(RecordingTrainer):
    """Propagates nothing, so that the terms can be propagated one by one."""

    def update(self, optimizer, loss):
        assert loss.requires_grad


def numpy_nce(query: torch.Tensor, key: torch.Tensor) -> float:
    """-log of the share of the own key among all keys of the image, mean over places and images."""
    q, k = (t.detach().double().numpy() for t in (query, key))
    similarities = np.exp(np.einsum("bpc,bqc->bpq", q, k) / TEMPERATURE)
    own = np.diagonal(similarities, axis1=1, axis2=2)
    return float(-np.log(own / similarities.sum(axis=2)).mean())


def contrastive(keys: list, queries: list, of_key: Callable, of_query: Callable) -> float:
    embedded = zip(of_query(queries)[0], of_key(keys)[0])
    return float(np.mean([numpy_nce(query, key) for query, key in embedded]))


def numpy_least_squares(maps: list[torch.Tensor], label: float) -> float:
    return float(np.mean([((scale.detach().double().numpy() - label) ** 2).mean() for scale in maps]))


def check(value: torch.Tensor, expected: float) -> None:
    assert value.item() == pytest.approx(expected, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("name", ROUTES)
def test_only_the_stepped_networks_receive_gradient(name):
    trainer = RecordingTrainer(two_domain_method(name))
    trainer.method(trainer, batch())
    assert [stepping for stepping, _ in trainer.updates] == ROUTES[name]
    for stepping, with_gradient in trainer.updates:
        assert with_gradient == stepping


@pytest.mark.parametrize(("name", "term"), [(name, term) for name in ROUTES for term in LEARNERS[name]])
def test_who_learns_from_a_term(name, term):
    method = two_domain_method(name)
    output = method(TermTrainer(method), batch())
    assert set(output) == {*LEARNERS[name], "generator"} | PICTURES
    output[term].backward()
    learners = {
        key
        for key, network in method.networks.items()
        if any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.parameters())
    }
    assert learners == LEARNERS[name][term]


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("name", ROUTES)
def test_losses_are_finite_scalars_and_images_keep_their_shape(name, size):
    method = two_domain_method(name)
    for key, value in method(RecordingTrainer(method), batch(size)).items():
        if key in PICTURES:
            assert value.shape == (size, 1, SIZE, SIZE)
            assert not value.requires_grad
        else:
            assert value.numel() == 1
            assert bool(torch.isfinite(value))


def test_dclgan_compares_each_patch_through_the_encoder_of_its_domain():
    method, data = two_domain_method("dclgan"), batch()
    x, y = data["source"], data["target"]
    forth, back = method.generator, method.back_generator
    with torch.no_grad():
        fake_target, fake_source = forth(x), back(y)
        source, target = method.source_features, method.target_features
        of_x = contrastive(forth.encode(x)[1:], back.encode(fake_target)[1:], source, target)
        of_y = contrastive(back.encode(y)[1:], forth.encode(fake_source)[1:], target, source)
        judged = method.target_discriminator(fake_target), method.source_discriminator(fake_source)
        real = method.target_discriminator(y), method.source_discriminator(x)
        identity = np.abs((forth(y) - y).numpy()).mean() + np.abs((back(x) - x).numpy()).mean()
    output = method(TermTrainer(method), data)
    adversarial = sum(numpy_least_squares(maps, 1) for maps in judged)
    check(output["contrastive"], of_x + of_y)
    check(output["adversarial"], adversarial)
    check(output["identity"], identity)
    check(output["generator"], adversarial + 2 * (of_x + of_y) + identity)
    halves = [numpy_least_squares(maps, 1) for maps in real] + [numpy_least_squares(maps, 0) for maps in judged]
    check(output["discriminator"], 0.5 * sum(halves))


def test_dclgan_can_leave_the_identity_out():
    method = two_domain_method("dclgan", identity_weight=0.0, contrastive_weight=3.0)
    output = method(TermTrainer(method), batch())
    assert "identity" not in output
    assert_close(output["generator"], output["adversarial"] + 3 * output["contrastive"])


def fastcut_in_both_states() -> dict[bool, tuple[ContrastiveUnpairedTranslation, dict, dict]]:
    """The losses of a batch that was mirrored, and of one that was not, by the seed."""
    found = {}
    for seed in range(20):
        method, data = two_domain_method("fastcut"), batch()
        torch.manual_seed(seed)
        output = method(TermTrainer(method), data)
        with torch.no_grad():
            plain = method.generator(data["source"])
        found[not torch.allclose(output["fake_target"], plain)] = (method, data, output)
    return found


def test_fastcut_mirrors_the_image_and_mirrors_the_features_back():
    found = fastcut_in_both_states()
    assert set(found) == {False, True}
    for flipped, (method, data, output) in found.items():
        x = data["source"]
        with torch.no_grad():
            fake = method.generator(x.flip(-1) if flipped else x)
            encoded = method.generator.encode(fake)
            back = [feature.flip(-1) for feature in encoded] if flipped else encoded
            expected = contrastive(method.generator.encode(x), back, method.patch_features, method.patch_features)
            adversarial = numpy_least_squares(method.discriminator(fake), 1)
        check(output["contrastive"], expected)
        check(output["generator"], adversarial + 10 * expected)
        assert_close(output["fake_target"], fake.flip(-1) if flipped else fake)


def test_cut_never_mirrors():
    method, data = two_domain_method("fastcut", flip_equivariance=False, identity_weight=1.0), batch()
    with torch.no_grad():
        plain = method.generator(data["source"])
    for seed in range(6):
        torch.manual_seed(seed)
        assert_close(method(TermTrainer(method), data)["fake_target"], plain)


def test_unit_is_equation_2_over_all_scales(monkeypatch):
    monkeypatch.setattr(unit, "with_noise", lambda code: code)
    method, data = two_domain_method("unit"), batch()
    x, y = data["source"], data["target"]
    forth, back = method.generator, method.back_generator
    with torch.no_grad():
        codes = forth.encode(x), back.encode(y, forth)
        fake_target, fake_source = forth.decode(codes[0]), back.decode(codes[1], forth)
        same = back.decode(codes[0], forth), forth.decode(codes[1])
        cycled_codes = back.encode(fake_target, forth), forth.encode(fake_source)
        cycled = back.decode(cycled_codes[0], forth), forth.decode(cycled_codes[1])
        judged = method.target_discriminator(fake_target), method.source_discriminator(fake_source)
        real = method.target_discriminator(y), method.source_discriminator(x)
    l1 = [sum(np.abs((a - b).numpy()).mean() for a, b in zip(images, (x, y))) for images in (same, cycled)]
    kl = [sum((code.double().numpy() ** 2).mean() for code in pair) for pair in (codes, cycled_codes)]
    adversarial = sum(numpy_least_squares(maps, 1) for maps in judged)
    output = method(TermTrainer(method), data)
    for term, expected in zip(("reconstruction", "cycle", "kl", "cycle_kl"), l1 + kl):
        check(output[term], expected)
    check(output["generator"], adversarial + 10 * sum(l1) + 0.01 * sum(kl))
    halves = [numpy_least_squares(maps, 1) for maps in real] + [numpy_least_squares(maps, 0) for maps in judged]
    check(output["discriminator"], 0.5 * sum(halves))


def test_unit_adds_noise_in_training_and_none_when_deployed():
    method, data = two_domain_method("unit"), batch()
    first, second = (method(TermTrainer(method), data)["fake_target"] for _ in range(2))
    assert not torch.allclose(first, second)
    assert_close(method.generator.eval()(data["source"]), method.generator(data["source"]), rtol=0, atol=0)


def test_unit_refuses_images_that_do_not_come_back_in_their_size():
    method, data = two_domain_method("unit"), batch()
    data["source"] = data["source"][:, :, :-1]
    with pytest.raises(ValueError, match=r"`source` must have sides that are multiples .* got \[23, 24\], of which"):
        method(TermTrainer(method), data)
