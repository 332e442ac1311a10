"""Export of a bundle's network by `torch.export`: one `.pt2` file that needs torch and nothing else to run.

TorchScript and ONNX come from MONAI's own commands; MONAI has none for this format, which follows TorchScript.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.fx.experimental._config as fx_config
from monai.bundle import ConfigParser
from torch import nn

from ..files import write_bytes
from ..networks.definition import input_channels
from ..networks.weights import load_weights

EXAMPLE = (2, 96, 80)  # batch, height, width; none of them is fixed by it
CHECKED = ((1, 64, 64), (3, 75, 50), (2, 128, 96))  # others than the example: odd ones, and a batch of one
LARGEST_DIFFERENCE = 1e-5  # of images in [-1, 1]: 0.02 HU of a range of 4096


class Exported(NamedTuple):
    """A written export.

    Attributes:
        path: The file.
        difference: Largest absolute difference to the network in eager mode, for images in [-1, 1].
    """

    path: Path
    difference: float


def export_network(bundle: str | Path, output: str | Path, **options: Any) -> Exported:
    """Write the network of a bundle, with its weights, as a program for any batch, height and width.

    The file carries `metadata.json`, `inference.json` and `network.json` (`extra_files` of `torch.export.load`).

    Args:
        bundle: Folder of the bundle.
        output: File to write, `*.pt2`; atomically.
        options: Ids of `inference.yaml`, such as `target`, `source` and `pixel_mm` of a kernel conversion.

    Returns:
        The path, and the difference to eager mode at sizes other than the exported one.

    Raises:
        ValueError: If the file's name does not end in `.pt2`, or the export computes something else.
    """
    bundle, output = Path(bundle), Path(output)
    if output.suffix != ".pt2":
        raise ValueError(f"`output` must be a file *.pt2, got {str(output)!r}.")
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.yaml"))
    parser.update({"bundle_root": str(bundle), **{name: value for name, value in options.items() if value is not None}})
    network = load_weights(parser.get_parsed_content("network_def"), bundle / "models" / "model.pt").cpu().eval()
    channels = input_channels(network)
    files = {
        "metadata.json": (bundle / "configs" / "metadata.json").read_text(encoding="utf-8"),
        "inference.json": json.dumps(parser.config, default=str),
        "network.json": (bundle / "models" / "network.json").read_text(encoding="utf-8"),
    }
    data = export_program(network, channels, files)
    difference = largest_difference(network, data, channels)
    if difference > LARGEST_DIFFERENCE:
        raise ValueError(f"the export of {bundle} must compute what eager mode does, but differs by {difference:.3g}.")
    write_bytes(output, data)
    return Exported(output, difference)


def export_program(network: nn.Module, channels: int, files: Mapping[str, str] | None = None) -> bytes:
    """Export a network whose input `(B, C, H, W)` may have any batch, height and width.

    Args:
        network: In evaluation mode.
        channels: C.
        files: Texts to store beside the program, by name.

    Returns:
        Content of the `.pt2` file.
    """
    batch, height, width = EXAMPLE
    image = torch.zeros(batch, channels, height, width)
    free = {axis: torch.export.Dim.AUTO for axis in (0, 2, 3)}
    written = io.BytesIO()
    # Without the patch, padding to a multiple is specialised to whether the example needed any, and a batch to not 1.
    with torch.no_grad(), warnings.catch_warnings(), fx_config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        warnings.simplefilter("ignore")
        program = torch.export.export(network, (image,), dynamic_shapes=(free,), strict=False)
        torch.export.save(program, written, extra_files=dict(files or {}))
    return written.getvalue()


def largest_difference(network: nn.Module, data: bytes, channels: int) -> float:
    """Compare an export with eager mode, on noise of several sizes.

    Args:
        network: The exported network.
        data: Content of the `.pt2` file.
        channels: Of its input.

    Returns:
        Largest absolute difference of the outputs for images in [-1, 1].
    """
    exported = torch.export.load(io.BytesIO(data)).module()
    generator = torch.Generator().manual_seed(0)
    differences = []
    for batch, height, width in CHECKED:
        image = torch.rand(batch, channels, height, width, generator=generator) * 2 - 1
        with torch.no_grad():
            differences.append((exported(image) - network(image)).abs().max().item())
    return max(differences)
