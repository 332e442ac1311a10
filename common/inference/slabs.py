"""A volume translated slab by slab, and written by a thread while the next is made: memory does not grow with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.networks.utils import eval_mode

from ..devices import to_device
from ..errors import disk_full_names
from ..files import Staging
from ..images.grids import axial_last
from ..images.names import file_name, output_layout
from ..images.writing import NiftiSliceWriter
from .output_check import OutputCheck, PairedSlices
from .outputs import NIFTI, publish_output
from .sidecar import RunRecord


class BackgroundWriter:
    """
    A context in which calls are made by a thread, one after the other, at most one of them waiting.

    What a call raises is raised by the next one, or at the end of the context; after that none is made any more.

    Example:
        >>> with BackgroundWriter() as background:
        ...     for level in range(3):
        ...         background(print, level)
        0
        1
        2
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._last: Future | None = None

    def __enter__(self) -> BackgroundWriter:
        return self

    def __call__(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Begin a call as soon as the last one has ended; what that one raised is raised here."""
        self._finish()
        self._last = self._thread.submit(work, *arguments)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            self._thread.shutdown()

    def _finish(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            last.result()


SLAB = 8  # axial slices that are translated, then checked and written, at a time
Transform = Callable[[Mapping[str, Any]], Mapping[str, Any]]
Network = Callable[[torch.Tensor], torch.Tensor]


def translated_slabs(
    volume: MetaTensor,
    network: Network,
    encode: Transform,
    decode: Transform,
    inferer: Inferer,
    *,
    device: str | torch.device = "cpu",
    slab: int = SLAB,
    context: int = 0,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """
    The translation of a volume by a network that sees axial slices one by one, or each with a few neighbours.

    Args:
        volume: (1, X, Y, Z) as stored, in any orientation.
        network: what `inferer` applies.
        encode: of a bundle's preprocessing what comes after loading; must treat slices independently of each other.
        decode: its inverse, which gives `pred` on the grid of `image`.
        inferer: how the network is applied to slices (1, 1, X, Y, n).
        device: where the network runs.
        slab: slices at a time.
        context: neighbours on either side on which the translation of a slice depends.

    Yields:
        consecutive slices across the axial axis, as it is stored: of the source and of the translation, (1, X, Y, Z)
        each, but for n slices along that axis.
    """
    axis = axial_axis(volume)
    depth = volume.shape[axis]
    for start in range(0, depth, slab):
        size, first = min(slab, depth - start), max(0, start - context)
        part = volume.narrow(axis, first, min(start + size + context, depth) - first).as_subclass(torch.Tensor)
        item = dict(encode({"image": MetaTensor(part.float().clone(), meta=dict(volume.meta))}))
        with torch.no_grad():
            item["pred"] = inferer(to_device(item["image"][None], device), network)[0].cpu()
        output = torch.as_tensor(decode(item)["pred"]).as_subclass(torch.Tensor)
        yield part.float().narrow(axis, start - first, size), output.narrow(axis, start - first, size)


class TranslateSlices:
    """
    The iteration of an evaluator that translates volumes, each into a file `<source's name>_synthetic_<target>.nii.gz`.

    Slabs of axial slices are encoded, translated, decoded, compared with the source and written; beside a view of the
    source, memory holds two of them, for one is written while the next one is made. A volume that is not stored in
    axial slices is gathered in 16 bit before it is written.

    Args:
        encode: see `translated_slabs`.
        decode: likewise; gives whole HU.
        record: of the run; its target is part of the file's name.
        check: judges the output, slice by slice.
        output_dir: where it goes, together with its sidecar.
        data_root_dir: outputs keep their path below it.
        output_format: `nifti`, `dicom`, which is written from the NIfTI file, or `both`.
        slab: see `translated_slabs`.
        context: likewise.

    Raises:
        ValueError: when called, for an output that must not be written.
        DiskFullError: when called and the disk gets full; nothing is left there.
    """

    def __init__(
        self,
        encode: Transform,
        decode: Transform,
        record: RunRecord,
        check: OutputCheck,
        *,
        output_dir: str | Path,
        data_root_dir: str | Path,
        output_format: str = NIFTI,
        slab: int = SLAB,
        context: int = 0,
    ) -> None:
        self.slab, self.context = slab, context
        self.encode, self.decode, self.record, self.check = encode, decode, record, check
        self.output_dir, self.output_format = Path(output_dir), output_format
        self.layout = output_layout(output_dir, record.target, data_root_dir=data_root_dir)

    def __call__(self, engine: Engine, batch: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
        """Translate loaded images (1, X, Y, Z), a list of items; returns the paths of the files."""
        return [{"saved": str(self._write(engine, item["image"]))} for item in batch]

    def _write(self, engine: Any, image: MetaTensor) -> Path:
        path = Path(self.layout.filename(image.meta["filename_or_obj"]))
        with disk_full_names(self.output_dir), Staging(self.output_dir) as staging, eval_mode(engine.network):
            staged = staging.folder / path.relative_to(self.output_dir)
            slabs = translated_slabs(
                image,
                engine.network,
                self.encode,
                self.decode,
                engine.inferer,
                device=engine.state.device,
                slab=self.slab,
                context=self.context,
            )
            findings = self.check(_written(slabs, image, staged), file_name(image))
            published = publish_output(
                staging, staged, image, self.record, output_format=self.output_format, findings=findings
            )
        return published[0]


def axial_axis(volume: MetaTensor) -> int:
    """The dimension of (1, X, Y, Z) across which the axial slices lie."""
    directions = nib.orientations.io_orientation(np.asarray(volume.affine, dtype=float))
    return 1 + int(np.flatnonzero(directions[:, 0] == 2)[0])


def _written(slabs: Iterator[tuple[torch.Tensor, torch.Tensor]], image: MetaTensor, path: Path) -> PairedSlices:
    """Write the translation while it is made; returns what the checks of the output need."""
    affine, axis, shape = np.asarray(image.affine, dtype=float), axial_axis(image), image.shape[1:]
    pair = PairedSlices(axial_last(np.empty((0, 0, 0)), affine)[1][:2])
    gathered = None if axis == 3 else np.empty(shape, np.int16)
    done = 0
    with NiftiSliceWriter(path, shape, affine) as writer, BackgroundWriter() as background:

        def finish(source: np.ndarray, output: np.ndarray) -> None:
            nonlocal done
            first, second = (axial_last(volume, affine)[0] for volume in (source, output))
            for level in range(first.shape[2]):
                pair.add(first[:, :, level], second[:, :, level])
            with np.errstate(invalid="ignore"):  # what is not a number is told, and refused, by the check
                stored = output.astype(np.int16)
            if gathered is None:
                writer.write(stored)
            else:
                np.moveaxis(gathered, axis - 1, -1)[..., done : done + first.shape[2]] = axial_last(stored, affine)[0]
            done += first.shape[2]

        for source, output in slabs:
            background(finish, source[0].numpy(), output[0].numpy())
        if gathered is not None:
            background(writer.write, gathered)
    return pair
