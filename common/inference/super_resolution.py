"""Super-resolution of whole clinical volumes, written slice by slice in constant memory."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.networks.utils import eval_mode
from monai.transforms import MapTransform
from tqdm import tqdm

from ..errors import DISK_FULL, DiskFullError
from ..files import Staging
from ..images.grids import SliceStorage, finer_affine
from ..images.names import file_name, output_layout
from ..images.nifti import space_codes
from ..images.writing import NiftiSliceWriter, nifti_bytes
from ..transforms.unchanged import axial_slices
from .output_check import OutputCheck, PairedSlices
from .outputs import NIFTI, publish_output
from .sidecar import RunRecord
from .slabs import BackgroundWriter, SliceParts
from .tiles import TileInferer

logger = logging.getLogger(__name__)
ORIGINAL = "original"  # key of the source in HU, which the transform of padding needs
CURES = (
    'Choose less of it with `--region lung`, `--slab "[z0, z1]"` (axial slices) or '
    '`--region "[[x0, x1], [y0, y1], [z0, z1]]"` (voxels of the file), or another `--output_dir`.'
)


class SuperResolve:
    """Super-resolve volumes as the iteration of an evaluator, each to a file `<source's name>_synthetic_<target>`.

    A 512 x 512 x 300 scan at factor 8 has 5 G voxels, 10 GB as int16. Slices are made and decoded one by one, and
    written while the next one is made; beside the source, memory holds a few slices and a tile. A volume for which the
    disk has no room is refused before the first slice; if the disk fills up later, or on any other error, everything
    that was written is removed.

    The file has the axes and directions of the source (the axial axis last), its pixel size divided by the factor, and
    the same slices; the corners of both grids agree. Its affine contains the position of the region.

    Args:
        encode: Part of the preprocessing that comes after loading and finding the region; must treat axial slices
            independently, and put them along the last axis.
        decode: Transform from `{"pred": (C, X, Y, n) in [-1, 1]}` to whole HU, which evaluation uses as well; it is
            given `original`, the source's slices in HU, and `region`, if the item has them.
        record: Provenance record of this run, whose target is part of the file's name.
        check: Check of the output, slice by slice.
        output_dir: Folder of the outputs and their sidecars.
        data_root_dir: Folder below which the sources' subfolders are kept in `output_dir`.
        compress: Whether to write `.nii.gz`, which is smaller, but can only be read as a whole by viewers and nibabel;
            a `.nii` can be opened in part.
        output_format: Output format, `nifti`, `dicom` (written from the NIfTI file), or `both`.

    Raises:
        DiskFullError: When called, if the disk has no room for the output or fills up.
    """

    def __init__(
        self,
        encode: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        decode: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        record: RunRecord,
        check: OutputCheck,
        *,
        output_dir: str | Path,
        data_root_dir: str | Path,
        compress: bool = False,
        output_format: str = NIFTI,
    ) -> None:
        self.encode, self.decode, self.record, self.check = encode, decode, record, check
        self.output_dir, self.output_format = Path(output_dir), output_format
        extension = ".nii.gz" if compress else ".nii"
        self.layout = output_layout(output_dir, record.target, data_root_dir=data_root_dir, extension=extension)

    def __call__(self, engine: Engine, batch: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
        """Super-resolve the regions of loaded images (1, X, Y, Z), and return the paths of the files."""
        return [{"saved": str(self._write(engine, item))} for item in batch]

    def _write(self, engine: Any, item: Mapping[str, Any]) -> Path:
        image: MetaTensor = item["image"]
        inferer: TileInferer = engine.inferer
        box = [(int(start), int(stop)) for start, stop in item["region"]]
        stored = np.asarray(image.affine, dtype=float)
        axes = nib.orientations.io_orientation(stored)
        affine = stored @ nib.orientations.inv_ornt_aff(axes, image.shape[1:])  # along RAS
        scales = (inferer.factor, inferer.factor, 1)
        shape = tuple(scale * (stop - start) for scale, (start, stop) in zip(scales, box))
        fine = finer_affine(affine, inferer.factor, [start for start, _ in box])
        storage = SliceStorage(fine, shape, like=np.asarray(image.meta.get("original_affine", stored), dtype=float))
        path = Path(self.layout.filename(image.meta["filename_or_obj"]))
        _check_disk(path, storage.shape, file_name(image))
        parts = SliceParts(image, self.encode)
        try:
            with Staging(self.output_dir) as staging, eval_mode(engine.network):
                staged = staging.place(path)
                pair = PairedSlices(nib.affines.voxel_sizes(affine)[:2], finer=inferer.factor, depth=shape[2])
                with (
                    NiftiSliceWriter(staged, storage.shape, storage.affine, codes=space_codes(image.meta)) as writer,
                    BackgroundWriter() as background,
                    tqdm(total=shape[2], desc=path.name, unit="slice", mininterval=_interval()) as bar,
                ):

                    def finish(decoded: np.ndarray, part: Mapping[str, Any], levels: range) -> None:
                        self._compare(pair, part, decoded, levels)
                        writer.write(storage.slices(decoded.astype(np.int16)))

                    for levels in _levels(box[2], inferer.batch_size, storage.downwards):
                        part = {**parts.encoded_upwards(levels), "region": item["region"]}
                        within = [*box[:2], (0, len(levels))]
                        encoded = part["image"].as_subclass(torch.Tensor)
                        (slab,) = inferer.slabs(encoded, engine.network, within, device=engine.state.device)
                        background(finish, self._decoded(slab, part), part, levels)
                        bar.update(len(levels))
                findings = self.check(pair, file_name(image))
                path, *_ = publish_output(
                    staging, staged, image, self.record, output_format=self.output_format, findings=findings
                )
        except OSError as error:
            if error.errno in DISK_FULL:
                raise DiskFullError(
                    f"{_demand(path, storage.shape, file_name(image))} It filled up. {CURES}"
                ) from error
            raise
        return path

    def _decoded(self, encoded: torch.Tensor, part: Mapping[str, Any]) -> np.ndarray:
        """Decode slices (1, X, Y, n) of the region."""
        item: dict[str, Any] = {"pred": encoded}
        if ORIGINAL in part:
            item |= {ORIGINAL: part[ORIGINAL], "region": part["region"]}
        return torch.as_tensor(self.decode(item)["pred"])[0].cpu().numpy()

    def _compare(self, pair: PairedSlices, part: Mapping[str, Any], slab: np.ndarray, levels: range) -> None:
        """Add a decoded slab (X, Y, n) to the comparison."""
        (x0, x1), (y0, y1), _ = ((int(start), int(stop)) for start, stop in part["region"])
        source = self._decoded(torch.as_tensor(part["image"])[:, x0:x1, y0:y1], part)
        masks: Any = [None] * len(levels)
        if self.check.unchanged is not None and ORIGINAL in part:
            slices, _, pixel_mm = axial_slices(part[ORIGINAL])
            masks = self.check.unchanged.mask(slices, part[ORIGINAL].meta, pixel_mm)[:, x0:x1, y0:y1].numpy()
        for index, (level, kept) in enumerate(zip(levels, masks)):
            pair.add(source[:, :, index], slab[:, :, index], level, kept=kept)


class StoredAxesd(MapTransform):
    """Store super-resolved volumes along the axes of their source's file, axial slices last, as `SuperResolve` does.

    Args:
        keys: Keys of volumes (C, X, Y, Z) along RAS, MetaTensors.
        orig_keys: Key of the preprocessed image, whose meta data contain the affine of its file.
        allow_missing_keys: Whether items may lack some of the keys.
    """

    def __init__(self, keys: KeysCollection, orig_keys: str, *, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.orig_keys = orig_keys

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        source = item[self.orig_keys]
        like = np.asarray(source.meta.get("original_affine", source.affine), dtype=float)
        for key in self.key_iterator(item):
            fine = item[key]
            storage = SliceStorage(np.asarray(fine.affine, dtype=float), fine.shape[1:], like=like)
            stored = np.stack([storage.slices(channel) for channel in np.asarray(fine.cpu())])
            item[key] = MetaTensor(torch.as_tensor(stored.copy()), affine=torch.as_tensor(storage.affine))
        return item


def _levels(span: tuple[int, int], batch_size: int, downwards: bool) -> Iterator[range]:
    """Yield the numbers of the source's slices, along RAS, in the order in which they are written."""
    starts = range(*span, batch_size)
    for start in reversed(starts) if downwards else starts:
        yield range(start, min(start + batch_size, span[1]))


def _check_disk(path: Path, shape: tuple[int, ...], source: str) -> None:
    """Refuse an output that does not fit on the disk, before work starts."""
    free = shutil.disk_usage(next(folder for folder in path.resolve().parents if folder.exists())).free
    needed = nifti_bytes(shape)
    if needed > free:
        raise DiskFullError(f"{_demand(path, shape, source)} There are {free / 1e9:.3g} GB. {CURES}")
    logger.info(f"{source}: writing {shape[0]} x {shape[1]} x {shape[2]} voxels, {needed / 1e9:.3g} GB.")


def _demand(path: Path, shape: tuple[int, ...], source: str) -> str:
    most = "up to " if path.suffix == ".gz" else ""
    return (
        f"{source} super-resolved has {shape[0]} x {shape[1]} x {shape[2]} voxels: the disk of {str(path.parent)!r}"
        f" must have room for {most}{nifti_bytes(shape) / 1e9:.3g} GB."
    )


def _interval() -> float:
    """Return the seconds between two lines of progress, as a volume takes minutes to hours."""
    return 0.2 if sys.stderr.isatty() else 15.0
