"""Pictures of a conversion's features: images above, clusters of the generator's and the discriminator's pixels below.

The pixels of feature maps are clustered by k-means; the networks are those of a training. The picture is written by
`python -m common features` and shown in a section of the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from markupsafe import Markup
from monai.bundle import ConfigParser
from monai.transforms import CenterSpatialCrop, Compose, SpatialPad
from scipy.cluster.vq import kmeans2, vq
from torch import nn
from torch.nn.functional import avg_pool2d

from ..data.datalist import load_datalist
from ..networks.definition import load_definition, read_definition
from ..networks.discriminators import SemanticDiscriminator
from ..networks.weights import load_weights
from ..networks.with_target import source_label, target_weights
from . import html
from .drawing import new_figure, require, to_png

MAX_PIXELS = 20_000  # from which the centres are found; all pixels are then assigned

WEIGHT = "downs.0.0.parametrizations.weight.original"

PICTURE = "features.png"
FEATURE_NOTE = (
    "A column a direction: the converted image, then clusters (k-means of pixels' feature vectors, common to a row) "
    "of the generator's decoder feature and of the discriminator's semantic map, coloured from the darkest to the "
    "brightest tissue. As figure 4 of the KCGAN thesis; the two rows' colours have nothing to do with each other."
)

ROWS = ("converted", "generator", "discriminator")
INK, PAPER = "#1f2933", "#ffffff"


def cluster_features(
    features: Sequence[np.ndarray], *, clusters: int = 12, seed: int = 0, brightness: Sequence[np.ndarray] | None = None
) -> list[np.ndarray]:
    """Cluster the pixels of several feature maps together, so that one cluster means the same in all of them.

    K-means as in figure 4 of the KCGAN thesis (Choi, University of Ulsan, 2024), k = 12, of the pixels' feature vectors
    scaled to length 1: the guidance compares directions of features, not lengths.

    Args:
        features: Maps `(C, H, W)` with the same C.
        clusters: Number of clusters K, >= 2.
        seed: Seed of the initial centres.
        brightness: An image `(H, W)` for each map; clusters are then numbered from the darkest to the brightest.

    Returns:
        Cluster of each pixel, from 0, `(H, W)` for each map.

    Raises:
        ValueError: If there are fewer than two clusters, no map, fewer pixels than clusters, or maps do not fit.

    Example:
        >>> halves = np.zeros((2, 4, 4)); halves[0, :, :2] = 1.0; halves[1, :, 2:] = 5.0
        >>> (labels,) = cluster_features([halves], clusters=2, brightness=[halves[1]])
        >>> labels[0].tolist()
        [0, 0, 1, 1]
    """
    if clusters < 2:
        raise ValueError(f"`clusters` must be >= 2, got {clusters}.")
    if not features or len({feature.shape[0] for feature in features}) != 1:
        raise ValueError(
            f"`features` must be maps (channels, height, width) of equally many channels, got the shapes"
            f" {[feature.shape for feature in features]}."
        )
    pixels = np.concatenate([feature.reshape(len(feature), -1).T for feature in features]).astype(np.float64)
    if len(pixels) < clusters:
        raise ValueError(f"`features` must have at least {clusters} pixels, one a cluster, got {len(pixels)}.")
    pixels /= np.maximum(np.linalg.norm(pixels, axis=1, keepdims=True), 1e-12)
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(pixels))[:MAX_PIXELS]
    centres, _ = kmeans2(pixels[chosen], clusters, minit="++", seed=rng, missing="raise")
    labels = vq(pixels, centres)[0]
    if brightness is not None:
        labels = _by_brightness(labels, np.concatenate([image.ravel() for image in brightness]), clusters)
    ends = np.cumsum([feature[0].size for feature in features])
    return [part.reshape(feature.shape[1:]) for part, feature in zip(np.split(labels, ends[:-1]), features)]


def _by_brightness(labels: np.ndarray, brightness: np.ndarray, clusters: int) -> np.ndarray:
    """Renumber the clusters by the mean of an image over their pixels; empty ones last."""
    counts = np.bincount(labels, minlength=clusters)
    sums = np.bincount(labels, weights=brightness, minlength=clusters)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    return np.argsort(np.argsort(means))[labels]


class FeatureMaps(NamedTuple):
    """Output and features of one direction.

    Attributes:
        output: Translated image `(H, W)` in [-1, 1].
        generator: Feature of the decoder `(C, H / 2, W / 2)`.
        discriminator: Semantic map of the translated image, of the same shape.
    """

    output: torch.Tensor
    generator: torch.Tensor
    discriminator: torch.Tensor


def trained_generator(models_dir: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Load the multi-domain generator of `network.json` and `model.pt`, and its definition.

    Raises:
        ValueError: If it has no decoder feature that guides a discriminator.
        FileNotFoundError: If there are no weights.
    """
    generator = load_definition(models_dir, {"class": "StarGANGenerator", "arguments": {"num_domains": 3}})
    if not hasattr(generator, "features") or not hasattr(generator, "num_domains"):
        raise ValueError(
            f"the network in {str(models_dir)!r} must be a generator of several kernels with a guiding feature, such as"
            f" StarGANGenerator, got {type(generator).__name__}."
        )
    definition = read_definition(models_dir, {})
    return load_weights(generator, Path(models_dir) / "model.pt").eval(), definition


def trained_discriminator(training_dir: str | Path) -> SemanticDiscriminator:
    """Load the discriminator with a decoder that a training left in `last.pt`.

    Its arguments follow from the shapes of its weights.

    Raises:
        FileNotFoundError: If there is no `last.pt`.
        ValueError: If the discriminator has no decoder, like StarGAN's.
    """
    path = Path(training_dir) / "last.pt"
    if not path.is_file():
        raise FileNotFoundError(f"{str(path)!r} must be there: give the `output_dir` of the training.")
    weights = torch.load(path, map_location="cpu", weights_only=True)["networks"]["discriminator"]
    if WEIGHT not in weights or not any(name.startswith("ups.") for name in weights):
        raise ValueError(
            f"the discriminator in {str(path)!r} has no decoder, hence no semantic map: train with a guidance."
        )
    layers = len({name.split(".")[1] for name in weights if name.startswith("downs.")})
    domains, _, side, _ = weights["heads.domain.weight"].shape
    channels, in_channels = weights[WEIGHT].shape[:2]
    discriminator = SemanticDiscriminator(
        side * 2**layers, domains, in_channels=in_channels, channels=channels, num_layers=layers
    )
    discriminator.load_state_dict(weights)
    return discriminator.eval()


@torch.no_grad()
def feature_maps(
    generator: nn.Module,
    discriminator: SemanticDiscriminator,
    definition: Mapping[str, Any],
    image: torch.Tensor,
    *,
    source: str,
    target: str,
    pixel_mm: float,
) -> FeatureMaps:
    """Convert an image and return the features of the conversion.

    Args:
        generator: Generator of several kernels.
        discriminator: Discriminator of the converted image.
        definition: Definition of the generator.
        image: Image `(1, H, W)` in [-1, 1], of the discriminator's size.
        source: Kernel of the image.
        target: Kernel to convert to.
        pixel_mm: Pixel size of the image.
    """
    label = target_weights(definition["domains"], target, definition.get("kernels_per_vendor"))
    label += source_label(definition, target, source, pixel_mm) or []
    output, guide = generator.features(image[None], torch.tensor([label]))  # type: ignore[operator]
    semantic = discriminator.features(output)[2]
    return FeatureMaps(output[0, 0], guide[0], semantic[0])


def feature_section(output_dir: Path) -> Markup:
    """Write the picture and its note; empty if there is none."""
    path = output_dir / PICTURE
    if not path.is_file():
        return Markup()
    picture = html.image(path.read_bytes(), "Clusters of the generator's and the discriminator's features")
    return html.section("Features", html.block("Clusters", picture, note=FEATURE_NOTE))


def write_features(
    bundle_root: str | Path,
    dataset_dir: str | Path,
    *,
    models_dir: str | Path,
    training_dir: str | Path,
    output_dir: str | Path,
    patient: int = 0,
    clusters: int = 12,
    seed: int = 0,
) -> Path:
    """Cluster the features of all conversions of a test patient's middle slice, and draw them.

    As in figure 4 of the KCGAN thesis there is one column per direction: the converted image, the generator's decoder
    feature and the discriminator's semantic map, each in the colours of its clusters, from the darkest to the brightest
    tissue. The clusters of a row are common to all directions; those of the two rows are unrelated.

    Args:
        bundle_root: Folder of a bundle of kernels.
        dataset_dir: Folder of its data.
        models_dir: Folder of the generator's `model.pt` and `network.json`.
        training_dir: Output of the training, with the discriminator in `last.pt`.
        output_dir: Folder of `features.png`, which `python -m common report` shows.
        patient: Index of the test patient, from 0.
        clusters: Number of clusters K.
        seed: Seed of k-means.

    Returns:
        Path of the picture.

    Raises:
        ValueError: If the networks are not a multi-domain conversion, or there is no such patient.
        FileNotFoundError: If weights or data are missing.
        ModuleNotFoundError: If matplotlib is missing.
    """
    require("matplotlib")
    generator, definition = trained_generator(models_dir)
    discriminator = trained_discriminator(training_dir)
    cases = load_datalist(str(dataset_dir), "test")
    if not 0 <= patient < len(cases):
        raise ValueError(f"`patient` must be 0 ... {len(cases) - 1}, a test patient, got {patient}.")
    domains = [domain for domain in definition["domains"] if domain in cases[patient]]
    images = {
        domain: _middle_slice(bundle_root, models_dir, cases[patient][domain], discriminator.image_size)
        for domain in domains
    }
    maps = {
        f"{source} to {target}": feature_maps(
            generator, discriminator, definition, image, source=source, target=target, pixel_mm=pixel_mm
        )
        for source, (image, pixel_mm) in images.items()
        for target in domains
        if target != source
    }
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PICTURE
    path.write_bytes(draw(maps, clusters=clusters, seed=seed))
    return path


def draw(maps: dict[str, FeatureMaps], *, clusters: int = 12, seed: int = 0) -> bytes:
    """Draw the picture as PNG: a column for each of `maps`, by title."""
    found = list(maps.values())
    brightness = [avg_pool2d(each.output[None], 2)[0].numpy() for each in found]
    rows: list[Sequence[np.ndarray]] = [[each.output.numpy() for each in found]]
    for features in ([each.generator.numpy() for each in found], [each.discriminator.numpy() for each in found]):
        rows.append(cluster_features(features, clusters=clusters, seed=seed, brightness=brightness))
    figure = new_figure(1.6 * len(found) + 0.3, 1.6 * len(rows) + 0.3, dpi=150, paper=PAPER)
    grid = figure.subplots(len(rows), len(found), squeeze=False)
    figure.subplots_adjust(left=0.04, right=0.995, bottom=0.005, top=0.95, wspace=0.03, hspace=0.03)
    for row, images, name in zip(grid, rows, ROWS):
        for axes, image in zip(row, images):
            _show(axes, image, clusters=None if name == ROWS[0] else clusters)
        row[0].set_ylabel(name, color=INK, fontsize=9)
    for axes, title in zip(grid[0], maps):
        axes.set_title(title, color=INK, fontsize=9)
    return to_png(figure, few_colours=True)


def _show(axes: Any, image: np.ndarray, *, clusters: int | None) -> None:
    """Show a slice (X, Y) in RAS, anterior up and the patient's right on the left; grey, or a colour per cluster."""
    shown = np.asarray(image).T[::-1, ::-1]
    if clusters is None:
        axes.imshow(shown, cmap="gray", vmin=-1.0, vmax=0.0)
    else:
        axes.imshow(shown, cmap="turbo", vmin=0, vmax=clusters - 1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def _middle_slice(bundle_root: str | Path, models_dir: str | Path, path: str, size: int) -> tuple[torch.Tensor, float]:
    """Return the encoded middle slice `(1, size, size)` of a volume, as inference reads it, and its pixel size."""
    parser = ConfigParser()
    parser.read_config(str(Path(bundle_root) / "configs" / "inference.yaml"))
    parser.update({"bundle_root": str(bundle_root), "models_dir": str(models_dir)})
    steps = [parser.get_parsed_content(name) for name in ("load", "orient", "scale")]
    volume = Compose(steps)({"image": path})["image"]
    image = torch.as_tensor(volume[..., volume.shape[-1] // 2])
    fitted = Compose([SpatialPad([size, size], value=-1.0), CenterSpatialCrop([size, size])])(image)
    spacing = [float(side) for side in volume.pixdim[:2]]
    return torch.as_tensor(fitted), sum(spacing) / 2
