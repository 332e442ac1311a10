"""Translation of a volume slab by slab, each written by a thread while the next is made, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
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
from monai.transforms import Compose
from monai.utils import convert_to_dst_type

from ..devices import to_device
from ..errors import disk_full_names
from ..files import Staging
from ..images.grids import MOST_VOXELS, axial_last
from ..images.names import file_name, output_layout
from ..images.nifti import forget_pages, space_codes
from ..images.writing import NiftiSliceWriter
from ..transforms.streaming import SlabEncoder, sees_all, slab_encoder
from ..transforms.unchanged import UnchangedRegion
from .fluid import Inversion
from .inferers import AxialInferer
from .output_check import OutputCheck, PairedSlices
from .outputs import NIFTI, clipped_voxels, publish_output
from .sidecar import RunRecord

SLAB = 8  # axial slices that are translated at a time
FIRST = 2  # the first time, so that writing begins soon, and what is wrong shows
TOGETHER = 2**20  # voxels that are resampled, checked and written at a time, which takes more memory
Transform = Callable[[Mapping[str, Any]], Mapping[str, Any]]
Network = Callable[[torch.Tensor], torch.Tensor]


class TranslateSlices:
    """Translate volumes as the iteration of an evaluator, each to `<source's name>_synthetic_<target>.nii.gz`.

    Slabs of axial slices are encoded, translated, decoded, compared with the source and written. Beside a view of the
    source, memory holds two slabs, as one is written while the next one is made. A volume that is not stored in axial
    slices is gathered before it is written, and one whose inferer needs all slices is translated at once.

    Args:
        encode: Part of the preprocessing that comes after loading, see `translated_slabs`.
        decode: Inverse of `encode`, which returns whole HU for integers.
        record: Provenance record of this run, whose target is part of the file's name.
        check: Check of the output, slice by slice.
        output_dir: Folder of the outputs and their sidecars.
        data_root_dir: Folder below which the sources' subfolders are kept in `output_dir`.
        output_format: Output format, `nifti`, `dicom` (written from the NIfTI file), or `both`.
        slab: Number of slices at a time; None for a whole volume.
        context: Number of neighbours on either side on which the translation of a slice depends; default: the
            inferer's `context`.
        dtype: Data type of the NIfTI file.
        inverts: Whether the contrast must be inverted, as from T1 to T2.
        percentiles: Lower and upper percentile between which the source was encoded; voxels beyond are counted.

    Raises:
        ValueError: When called, for an output that must not be written.
        DiskFullError: When called, if the disk is full; nothing is left on it.
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
        slab: int | None = SLAB,
        context: int | None = None,
        dtype: str = "int16",
        inverts: bool = False,
        percentiles: Sequence[float] | None = None,
    ) -> None:
        self.slab, self.context = slab, context
        self.encode, self.decode, self.record, self.check = encode, decode, record, check
        self.output_dir, self.output_format = Path(output_dir), output_format
        self.dtype, self.inverts, self.percentiles = dtype, inverts, percentiles
        self.layout = output_layout(output_dir, record.target, data_root_dir=data_root_dir)

    def __call__(self, engine: Engine, batch: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
        """Translate the loaded images (1, X, Y, Z) of several items, and return the paths of the files."""
        return [{"saved": str(self._write(engine, item["image"]))} for item in batch]

    def _write(self, engine: Any, image: MetaTensor) -> Path:
        path = Path(self.layout.filename(image.meta["filename_or_obj"]))
        with disk_full_names(self.output_dir), Staging(self.output_dir) as staging, eval_mode(engine.network):
            staged = staging.place(path)
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
            inversion = Inversion(image) if self.inverts else None
            pair = _written(slabs, image, staged, self.check.unchanged, dtype=self.dtype, inversion=inversion)
            measured = {} if inversion is None else inversion.measures()
            clipped = {} if self.percentiles is None else {"clipped_voxels": clipped_voxels(image, self.percentiles)}
            findings = self.check(pair, file_name(image), **measured)
            published = publish_output(
                staging, staged, image, self.record, output_format=self.output_format, findings=findings, **clipped
            )
        return published[0]


def translated_slabs(
    volume: MetaTensor,
    network: Network,
    encode: Transform,
    decode: Transform,
    inferer: Inferer,
    *,
    device: str | torch.device = "cpu",
    slab: int | None = SLAB,
    context: int | None = None,
    at_once: int = MOST_VOXELS,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Translate a volume with a network that sees axial slices one by one, or each with a few neighbours.

    Args:
        volume: Volume (1, X, Y, Z) as stored, in any orientation.
        network: Network that `inferer` applies.
        encode: Part of a bundle's preprocessing that comes after loading; must treat slices independently, except for
            a last step for which `sees_all` holds.
        decode: Inverse of `encode`, which puts `pred` on the grid of `image`.
        inferer: Inferer that applies the network to slices (1, 1, X, Y, n).
        device: Device on which the network runs.
        slab: Number of slices at a time; None for the whole volume.
        context: Number of neighbours on either side on which the translation of a slice depends; default: the
            inferer's `context`, of which None stands for all of them.
        at_once: Largest volume in voxels that is encoded at once if a step of `encode` depends on all of it.

    Yields:
        Consecutive slices of the source and of the translation in the order in which they are stored, (1, X, Y, Z) each
        with n slices along the axial axis.
    """
    axis = axial_axis(volume)
    depth = volume.shape[axis]
    context = getattr(inferer, "context", 0) if context is None else context
    steps = _steps(encode)
    small = volume.numel() <= at_once and any(map(sees_all, steps))
    at_a_time = slices_together(volume)
    if slab is None or context is None or (small and not sees_all(steps[-1])):
        slab, context, at_a_time = depth, 0, depth
    parts = SliceParts(volume, encode, by_slab=min(slab, at_a_time) < depth, at_once=small)
    ends = [*range(min(FIRST, slab, depth), depth, slab), depth] if slab < depth else [depth]
    for start, stop in pairwise([0, *ends]):
        first, beyond = max(0, start - context), min(stop + context, depth)
        spans = [(a, min(a + at_a_time, beyond)) for a in range(first, beyond, at_a_time)]
        items = [parts.encoded(*span) for span in spans]
        order = items[::-1] if parts.downwards else items
        images = torch.cat([item["image"].as_subclass(torch.Tensor) for item in order], dim=-1)
        seen = to_device(MetaTensor(images, meta=dict(order[0]["image"].meta))[None], device)
        below, above = (beyond - stop, start - first) if parts.downwards else (start - first, beyond - stop)
        with torch.no_grad():
            predicted = _translated(inferer, seen, network, below, above)
        sizes = [item["image"].shape[-1] for item in order]
        for item, prediction in zip(order, predicted.split(sizes, dim=-1)):
            item["pred"] = MetaTensor(prediction, meta=dict(item["image"].meta))
        del images, seen, predicted, order
        for a, b in spans:
            item = items.pop(0)
            low, high = max(a, start), min(b, stop)
            if low < high:
                output = torch.as_tensor(decode(item)["pred"]).as_subclass(torch.Tensor)
                source = parts.stored(low, high)
                yield source.float(), output.narrow(axis, low - a, high - low)
        forget_pages(volume)


def _translated(inferer: Inferer, seen: torch.Tensor, network: Network, below: int, above: int) -> torch.Tensor:
    """Translate slices (1, 1, X, Y, n); the first `below` and the last `above` of them may be left out, and be zero."""
    if below == above == 0 or not isinstance(inferer, AxialInferer):
        return inferer(seen, network)[0].cpu().as_subclass(torch.Tensor)
    wanted = inferer.inner(seen, network, below, above)[0].cpu().as_subclass(torch.Tensor)
    return torch.nn.functional.pad(wanted, (below, above))


class SliceParts:
    """A volume's slices in parts, encoded one after the other as the whole would be.

    Args:
        volume: Volume (1, X, Y, Z) as stored, which may be memory-mapped.
        encode: See `translated_slabs`.
        by_slab: Whether a last step that depends on the whole volume must be prepared for parts of it.
        at_once: Whether that is done in memory, where the whole volume is encoded and held.
    """

    def __init__(self, volume: MetaTensor, encode: Transform, *, by_slab: bool = True, at_once: bool = False) -> None:
        self.volume, self.axis = volume, axial_axis(volume)
        self.depth = volume.shape[self.axis]
        direction = nib.orientations.io_orientation(np.asarray(volume.affine, dtype=float))[self.axis - 1, 1]
        self.downwards = bool(direction < 0)
        self.encode: Transform = encode
        self.finish: SlabEncoder | None = None
        steps = _steps(encode)
        if by_slab and steps and sees_all(steps[-1]):
            self.encode = Compose(steps[:-1])
            self.finish = self._held(encode) if at_once else slab_encoder(steps[-1], self._upwards)

    def _held(self, encode: Transform) -> SlabEncoder:
        """Encode the whole volume, and return the function that finds the slices of a slab in it."""
        part = MetaTensor(self.stored(0, self.depth).float().clone(), meta=dict(self.volume.meta))
        whole = encode({"image": part})["image"][0].as_subclass(torch.Tensor).numpy()
        return lambda slab, start: whole[..., start : start + slab.shape[2]]

    def stored(self, start: int, stop: int) -> torch.Tensor:
        """Return slices as stored."""
        return self.volume.narrow(self.axis, start, stop - start).as_subclass(torch.Tensor)

    def encoded(self, start: int, stop: int) -> dict[str, Any]:
        """Return the item of some slices as stored."""
        part = MetaTensor(self.stored(start, stop).float().clone(), meta=dict(self.volume.meta))
        item = dict(self.encode({"image": part}))
        if self.finish is not None:
            image = item["image"]
            first = self.depth - stop if self.downwards else start
            values = self.finish(image[0].as_subclass(torch.Tensor).numpy(), first)
            item["image"] = convert_to_dst_type(values[None], image)[0]
        return item

    def encoded_upwards(self, levels: range) -> dict[str, Any]:
        """Return the item of some slices, which are counted from the lowest one."""
        start, stop = levels.start, levels.stop
        item = self.encoded(self.depth - stop, self.depth - start) if self.downwards else self.encoded(start, stop)
        forget_pages(self.volume)
        return item

    def _upwards(self) -> Iterator[np.ndarray]:
        """Yield all slabs without their last step of encoding, from the lowest slice."""
        at_a_time = slices_together(self.volume)
        starts = range(0, self.depth, at_a_time)
        for start in reversed(starts) if self.downwards else starts:
            part = self.stored(start, min(start + at_a_time, self.depth)).float()
            part = MetaTensor(part, meta=dict(self.volume.meta))
            yield self.encode({"image": part})["image"][0].as_subclass(torch.Tensor).numpy()
            forget_pages(self.volume)


def _steps(encode: Transform) -> list[Any]:
    return list(getattr(encode, "transforms", ()))


def before_encoding(preprocessing: Compose, encode: Compose) -> Compose:
    """Return the part of a bundle's preprocessing that comes before encoding, which is done slab by slab.

    Args:
        preprocessing: Flat sequence of transforms that ends with those of `encode`; one without any of them, as
            overlays of earlier versions give it, is returned whole.
        encode: Sequence of transforms that encodes a loaded volume.

    Raises:
        ValueError: If `preprocessing` has some of them only, or goes on after them.

    Example:
        >>> from monai.transforms import CopyItemsd, DeleteItemsd
        >>> load, scale = CopyItemsd("image", names="copy"), DeleteItemsd("copy")
        >>> before_encoding(Compose([load, scale]), Compose([scale])).transforms == (load,)
        True
    """
    steps, last = list(preprocessing.transforms), list(encode.transforms)
    known = {id(step) for step in last}
    first = [step for step in steps if id(step) not in known]
    if len(first) < len(steps) and [id(step) for step in steps[len(first) :]] != [id(step) for step in last]:
        raise ValueError(
            "`preprocessing` must end with all steps of `encode`, in their order, or have none of them: put further"
            " steps before `*@encode.transforms`, or into `encode`."
        )
    return Compose(first)


def axial_axis(volume: MetaTensor) -> int:
    """Return the dimension of a volume (1, X, Y, Z) along which its axial slices are stacked."""
    directions = nib.orientations.io_orientation(np.asarray(volume.affine, dtype=float))
    return 1 + int(np.flatnonzero(directions[:, 0] == 2)[0])


def slices_together(volume: MetaTensor) -> int:
    """Return how many axial slices of a volume are resampled at a time."""
    return max(1, TOGETHER * volume.shape[axial_axis(volume)] // volume.numel())


class BackgroundWriter:
    """A context in which a thread makes calls one after the other, at most one at a time.

    An error of a call is raised by the next one, or at the end of the context; no further call is made after it.

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
        """Begin a call as soon as the last one has ended; an error of the last one is raised here."""
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


def _written(
    slabs: Iterator[tuple[torch.Tensor, torch.Tensor]],
    image: MetaTensor,
    path: Path,
    unchanged: UnchangedRegion | None = None,
    *,
    dtype: str = "int16",
    inversion: Inversion | None = None,
) -> PairedSlices:
    """Write the translation while it is made, and return the paired slices for the checks of the output."""
    affine, axis, shape = np.asarray(image.affine, dtype=float), axial_axis(image), image.shape[1:]
    sizes = axial_last(np.empty((0, 0, 0)), affine)[1]
    pair = PairedSlices(sizes[:2], slice_mm=sizes[2], depth=shape[axis - 1])
    gathered = None if axis == 3 else np.empty(shape, dtype)
    done = 0
    with (
        NiftiSliceWriter(path, shape, affine, dtype=dtype, codes=space_codes(image.meta)) as writer,
        BackgroundWriter() as background,
    ):

        def finish(source: np.ndarray, output: np.ndarray) -> None:
            nonlocal done
            first, second = (axial_last(volume, affine)[0] for volume in (source, output))
            with np.errstate(invalid="ignore"):  # NaN is refused by the check of the output
                stored = output.astype(dtype)
            if gathered is None:
                writer.write(stored)
            else:
                np.moveaxis(gathered, axis - 1, -1)[..., done : done + first.shape[2]] = axial_last(stored, affine)[0]
            masks: Any = [None] * first.shape[2]
            if unchanged is not None:
                slices = torch.from_numpy(np.ascontiguousarray(np.moveaxis(first, -1, 0)))
                masks = unchanged.mask(slices, image.meta, pair.spacing_mm).numpy()
            for level, kept in enumerate(masks):
                pair.add(first[:, :, level], second[:, :, level], kept=kept)
            if inversion is not None:
                inversion.add(source, output, done)
            done += first.shape[2]

        for source, output in slabs:
            background(finish, source[0].numpy(), output[0].numpy())
        if gathered is not None:
            background(writer.write, gathered)
    return pair
