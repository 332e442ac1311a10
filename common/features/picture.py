"""The picture of a conversion's features: images above, clusters of the generator's and the discriminator's below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.transforms import CenterSpatialCrop, Compose, SpatialPad
from torch.nn.functional import avg_pool2d

from ..data import load_datalist
from ..reports.feature_section import PICTURE
from ..reports.figures import new_figure, require, to_png
from .clusters import cluster_features
from .networks import FeatureMaps, feature_maps, trained_discriminator, trained_generator

ROWS = ("converted", "generator", "discriminator")
INK, PAPER = "#1f2933", "#ffffff"


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
    """
    Cluster the features of all conversions of a test patient's middle slice, and draw them.

    As figure 4 of the KCGAN thesis: a column a direction; the converted image, the generator's decoder feature and the
    discriminator's semantic map, each in the colours of its clusters, from the darkest to the brightest tissue. The
    clusters of a row are common to all directions; those of the two rows have nothing to do with each other.

    Args:
        bundle_root: a bundle of kernels.
        dataset_dir: its data; the first test patients are numbered from 0.
        models_dir: the generator's `model.pt` and `network.json`.
        training_dir: the training's output, with the discriminator in `last.pt`.
        output_dir: gets `features.png`, which `python -m common report` shows.
        patient: which test patient.
        clusters: k.
        seed: of k-means.

    Returns:
        the picture.

    Raises:
        ValueError: when the networks are no multi-domain conversion, or there is no such patient.
        FileNotFoundError: when weights or data are missing.
        ModuleNotFoundError: when matplotlib is missing.
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
    """The picture as PNG: a column for each of `maps`, by title."""
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
    """A slice (X, Y) in RAS, anterior up and the patient's right on the left; grey, or a colour a cluster."""
    shown = np.asarray(image).T[::-1, ::-1]
    if clusters is None:
        axes.imshow(shown, cmap="gray", vmin=-1.0, vmax=0.0)
    else:
        axes.imshow(shown, cmap="turbo", vmin=0, vmax=clusters - 1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def _middle_slice(bundle_root: str | Path, models_dir: str | Path, path: str, size: int) -> tuple[torch.Tensor, float]:
    """The encoded middle slice `(1, size, size)` of a volume, as inference reads it, and its pixel size."""
    parser = ConfigParser()
    parser.read_config(str(Path(bundle_root) / "configs" / "inference.yaml"))
    parser.update({"bundle_root": str(bundle_root), "models_dir": str(models_dir)})
    steps = [parser.get_parsed_content(name) for name in ("load", "orient", "scale")]
    volume = Compose(steps)({"image": path})["image"]
    image = torch.as_tensor(volume[..., volume.shape[-1] // 2])
    fitted = Compose([SpatialPad([size, size], value=-1.0), CenterSpatialCrop([size, size])])(image)
    spacing = [float(side) for side in volume.pixdim[:2]]
    return torch.as_tensor(fitted), sum(spacing) / 2
