"""Clusters of features: of maps whose clusters are known, and of a training's networks as a picture."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from common.networks import SemanticDiscriminator, StarGANDiscriminator, StarGANGenerator, save_definition
from common.phantoms import generate_phantom
from common.reports import cluster_features, write_features
from common.reports.features import (
    FeatureMaps,
    draw,
    feature_maps,
    feature_section,
    trained_discriminator,
    trained_generator,
)
from tests.helpers.bundles import ROOT

DOMAINS = ["B30f", "B50f", "B70f"]


def blobs(order: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """A map (8, 6, 5) whose rows 0 to 5 point along the axes of `order`, with noise, and each pixel's true cluster."""
    rng = np.random.default_rng(sum(order))
    true = np.repeat(np.array(order)[:, None], 5, axis=1)
    feature = np.eye(8)[true].transpose(2, 0, 1) * rng.uniform(1.0, 9.0, (6, 5)) + rng.normal(0.0, 0.01, (8, 6, 5))
    return feature, true


def test_pixels_of_one_direction_are_one_cluster_in_all_maps():
    """Lengths differ by a factor of 9 within a cluster; the clusters' numbers follow the brightness."""
    maps, truths = zip(*(blobs(order) for order in ([0, 1, 2, 0, 1, 2], [2, 2, 1, 0, 0, 0])))
    brightness = [10.0 - truth for truth in truths]  # the axis 2 is the darkest
    labels = cluster_features(maps, clusters=3, brightness=brightness)
    for label, truth in zip(labels, truths):
        assert np.array_equal(label, 2 - truth)


def test_the_same_seed_gives_the_same_clusters():
    feature = np.random.default_rng(1).normal(size=(4, 20, 20))
    assert np.array_equal(cluster_features([feature], seed=3)[0], cluster_features([feature], seed=3)[0])


@pytest.mark.parametrize(
    ("features", "clusters", "words"),
    [
        ([np.ones((2, 4, 4))], 1, "`clusters` must be >= 2, got 1"),
        ([], 3, "`features` must be maps"),
        ([np.ones((2, 4, 4)), np.ones((3, 4, 4))], 3, r"got the shapes \[\(2, 4, 4\), \(3, 4, 4\)\]"),
        ([np.ones((2, 1, 2))], 3, "at least 3 pixels.*got 2"),
    ],
)
def test_what_cannot_be_clustered_is_refused(features, clusters, words):
    with pytest.raises(ValueError, match=words):
        cluster_features(features, clusters=clusters)


@pytest.fixture(scope="module")
def training(tmp_path_factory) -> dict:
    """A chest phantom, and networks as a training leaves them, untrained."""
    folder = tmp_path_factory.mktemp("features")
    generate_phantom("chest", folder / "data", patients=4, slices=1, size=64)
    torch.manual_seed(0)
    generator = StarGANGenerator(3, channels=8, num_res_blocks=1)
    discriminator = SemanticDiscriminator(128, 3, channels=4, num_layers=5)
    (folder / "models").mkdir()
    (folder / "training").mkdir()
    facts = {"codec": {"hu": [-1024, 3071]}, "domains": DOMAINS, "spacing_mm": [0.5, 6.0]}
    save_definition(folder / "models" / "network.json", generator, **facts)
    torch.save(generator.state_dict(), folder / "models" / "model.pt")
    state = {"networks": {"generator": generator.state_dict(), "discriminator": discriminator.state_dict()}}
    torch.save(state, folder / "training" / "last.pt")
    return {"folder": folder, "generator": generator.eval(), "discriminator": discriminator.eval()}


def test_the_discriminator_is_built_from_its_weights(training):
    found = trained_discriminator(training["folder"] / "training")
    assert found.arguments == training["discriminator"].arguments
    image = torch.rand(1, 1, 128, 128)
    with torch.no_grad():
        assert torch.equal(found.features(image)[2], training["discriminator"].features(image)[2])


def test_the_maps_are_those_of_the_networks(training):
    generator, definition = trained_generator(training["folder"] / "models")
    image = torch.rand(1, 128, 128) * 2 - 1
    arguments = {"source": "B30f", "target": "B70f", "pixel_mm": 0.7}
    found = feature_maps(generator, training["discriminator"], definition, image, **arguments)
    with torch.no_grad():
        output, guide = training["generator"].features(image[None], torch.tensor([[0.0, 0.0, 1.0]]))
        semantic = training["discriminator"].features(output)[2]
    assert torch.equal(found.output, output[0, 0])
    assert torch.equal(found.generator, guide[0])
    assert torch.equal(found.discriminator, semantic[0])
    assert found.generator.shape == found.discriminator.shape == (16, 64, 64)


def test_a_patients_six_directions_become_a_picture_that_the_report_shows(training, tmp_path):
    folder = training["folder"]
    places = {"models_dir": folder / "models", "training_dir": folder / "training", "output_dir": tmp_path}
    path = write_features(ROOT / "bundles" / "ggcl", folder / "data", **places)
    with Image.open(path) as picture:
        assert picture.width > 1.5 * picture.height  # six columns, three rows
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 12
    assert feature_section(tmp_path).count("<img") == 1
    assert feature_section(tmp_path / "none") == ""
    with pytest.raises(ValueError, match=r"`patient` must be 0 \.\.\. 0, a test patient, got 9"):
        write_features(ROOT / "bundles" / "ggcl", folder / "data", **places, patient=9)


def test_a_cluster_has_its_colour_and_the_patients_right_is_on_the_left():
    """Generator feature: one axis where X is in the lower half (the patient's left, in RAS), another elsewhere."""
    maps = {"one to two": feature_map_of_halves()}
    picture = np.asarray(Image.open(io.BytesIO(draw(maps, clusters=2))).convert("RGB")).astype(int)
    middle = picture[picture.shape[0] // 2]
    inside = [column for column in range(len(middle)) if np.ptp(middle[column]) > 40]  # grey frame and paper left out
    left, right = middle[inside[len(inside) // 4]], middle[inside[-len(inside) // 4]]
    assert right[0] > right[2]  # the bright cluster is red, and lies on the right
    assert left[2] > left[0]


def feature_map_of_halves() -> FeatureMaps:
    output = torch.full((32, 32), -1.0)
    output[:16] = 0.0  # low X: the patient's left
    feature = torch.zeros(2, 16, 16)
    feature[0, :8], feature[1, 8:] = 1.0, 1.0
    return FeatureMaps(output, feature, feature)


def test_networks_without_features_are_refused(training, tmp_path):
    weights = {"networks": {"discriminator": StarGANDiscriminator(64, 3, channels=4, num_layers=4).state_dict()}}
    torch.save(weights, tmp_path / "last.pt")
    with pytest.raises(ValueError, match="has no decoder, hence no semantic map"):
        trained_discriminator(tmp_path)
    with pytest.raises(FileNotFoundError, match="the `output_dir` of the training"):
        trained_discriminator(tmp_path / "none")
    with pytest.raises(ValueError, match=r"generator of several kernels.*got ResidualGenerator"):
        trained_generator(ROOT / "bundles" / "nec_t1t2" / "models")
