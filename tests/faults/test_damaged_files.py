"""Files that are cut short or changed: refused by their name, or, where no bit that counts is hit, read as before."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, LoadImaged

from common.baselines import load_baselines
from common.baselines.kernels.training import load_kernel_filters
from common.data import read_datalist
from common.dicom import image_readers
from common.engines.trainer import restore_training
from common.errors import EXPECTED
from common.files import write_json
from common.networks import CompactGenerator, load_weights, read_definition, save_definition
from common.phantoms.dataset import Volume, write_nifti
from common.transforms import CheckHeaderd
from tests.helpers.trainers import trainer

from . import tasks
from .traces import difference


def cut(content: bytes, drawn: random.Random) -> bytes:
    return content[: drawn.randrange(len(content))]


def flipped(content: bytes, drawn: random.Random) -> bytes:
    """One bit."""
    place = drawn.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << drawn.randrange(8)]) + content[place + 1 :]


def zeroed(content: bytes, drawn: random.Random) -> bytes:
    """A block, as a file system leaves it after a power cut."""
    place = drawn.randrange(len(content))
    return content[:place] + bytes(len(content[place : place + 512])) + content[place + 512 :]


def not_text(content: bytes, drawn: random.Random) -> bytes:
    """A byte of ASCII that becomes none; a JSON file has no checksum by which another digit could be noticed."""
    place = drawn.randrange(len(content))
    return content[:place] + bytes([content[place] | 0x80]) + content[place + 1 :]


BINARY, TEXT = (cut, flipped, zeroed), (cut, zeroed, not_text)


def checkpoint(folder: Path) -> tuple[Path, Callable[[Path], Any]]:
    trainer("nec", folder, epochs=1).run()

    def read(path: Path) -> Any:
        fresh = trainer("nec", None, seed=3)
        restore_training(fresh, path)
        return fresh.network.state_dict(), fresh.state.epoch

    return folder / "out" / "last.pt", read


def weights(folder: Path) -> tuple[Path, Callable[[Path], Any]]:
    path = folder / "model.pt"
    torch.save(CompactGenerator(channels=(8, 8)).state_dict(), path)
    return path, lambda path: load_weights(CompactGenerator(channels=(8, 8)), path).state_dict()


def definition(folder: Path) -> tuple[Path, Callable[[Path], Any]]:
    save_definition(folder / "network.json", CompactGenerator(channels=(8, 8)))
    return folder / "network.json", lambda path: read_definition(path.parent, {})


def baselines(folder: Path) -> tuple[Path, Callable[[Path], Any]]:
    path = folder / "baselines.json"
    path.write_bytes((tasks.ROOT / "bundles/nec_t1t2/models/baselines.json").read_bytes())
    return path, lambda path: {name: fitted.to_dict() for name, fitted in load_baselines(path).items()}


def filters(folder: Path) -> tuple[Path, Callable[[Path], Any]]:
    path = folder / "filters.json"
    path.write_bytes((tasks.ROOT / "bundles/ggcl/models/filters.json").read_bytes())

    def read(path: Path) -> Any:
        return {
            str(key): {n: f.to_dict() for n, f in entry.items()} for key, entry in load_kernel_filters(path).items()
        }

    return path, read


def datalist(folder: Path) -> tuple[Path, Callable[[Path], Any]]:
    entries = [{"image": f"images/{n}.nii.gz", "patient": str(n)} for n in range(9)]
    path = write_json(folder / "datalist.json", {"training": entries[:6], "test": entries[6:]})
    return path, lambda path: read_datalist(path)[0]


def nifti(folder: Path) -> tuple[Path, Callable[[Path], Any]]:
    """A volume of a phantom, as training and inference read it."""
    path = folder / "volume.nii.gz"
    write_nifti(path, Volume(np.random.default_rng(0).integers(0, 900, (16, 16, 6)), np.diag([2.0, 2.0, 5.0, 1.0])))
    load = Compose([CheckHeaderd("image"), LoadImaged("image", reader=image_readers())])

    def read(path: Path) -> Any:
        image = load({"image": str(path)})["image"]
        return torch.as_tensor(image), torch.as_tensor(image.affine)

    return path, read


FILES: dict[str, tuple[Callable, tuple[Callable, ...]]] = {
    "last.pt": (checkpoint, BINARY),
    "model.pt": (weights, BINARY),
    "network.json": (definition, TEXT),
    "baselines.json": (baselines, TEXT),
    "filters.json": (filters, TEXT),
    "datalist.json": (datalist, TEXT),
    "volume.nii.gz": (nifti, BINARY),
}


def try_damage(name: str, folder: Path, tries: int) -> None:
    make, damages = FILES[name]
    path, read = make(folder)
    content, expected = path.read_bytes(), read(path)
    assert difference(read(path), expected) is None
    drawn = random.Random(name)
    refused = 0
    for damage in damages:
        for number in range(tries):
            damaged = damage(content, drawn)
            path.write_bytes(damaged)
            found, error = attempt(read, path)
            if error is None:
                assert difference(found, expected) is None, (damage.__name__, number)
            else:
                ours = [link for link in chain(error) if isinstance(link, EXPECTED)]
                assert ours, (damage.__name__, number, error)
                assert path.name in str(ours[0]), error
                refused += 1
    assert refused > tries


def attempt(read: Callable[[Path], Any], path: Path) -> tuple[Any, Exception | None]:
    try:
        return read(path), None
    except Exception as error:
        return None, error


def chain(error: BaseException | None) -> list[BaseException]:
    links = []
    while error is not None:
        links.append(error)
        error = error.__cause__
    return links


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_refused_by_its_name(name, tmp_path):
    try_damage(name, tmp_path, 3)


@pytest.mark.faults
@pytest.mark.parametrize("name", FILES)
def test_many_damaged_files_are_refused_by_their_name(name, tmp_path, survived):
    try_damage(name, tmp_path, 200)
    survived(f"damaged {name}", 200 * len(FILES[name][1]))


def test_the_message_names_the_cure(tmp_path):
    cures = {
        "last.pt": r"last\.pt' is not the state of a training, or is damaged \(DamagedFileError: .*Remove it to start",
        "model.pt": r"model\.pt must be a file of plain tensors.*download or save the file again",
        "network.json": r"network\.json` must be JSON, got .*; restore it together with model\.pt",
        "baselines.json": r"baselines\.json` must be JSON.*fits and saves them",
        "filters.json": r"filters\.json` must be JSON.*config_file",
        "datalist.json": r"datalist\.json` must be JSON.*write it again",
        "volume.nii.gz": r"volume\.nii\.gz' is damaged \(Compressed file ended.*copy or convert it again",
    }
    for name, message in cures.items():
        folder = tmp_path / name
        folder.mkdir()
        path, read = FILES[name][0](folder)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        with pytest.raises(ValueError, match=message):  # noqa: PT012 - MONAI wraps it
            try:
                read(path)
            except RuntimeError as error:
                raise next(link for link in chain(error) if isinstance(link, ValueError)) from None


def test_an_uncompressed_volume_that_is_cut_short_is_refused(tmp_path):
    """A header of 352 bytes and 9 * 8 * 7 voxels of 2 bytes."""
    path = tmp_path / "volume.nii"
    nib.save(nib.Nifti1Image(np.zeros((9, 8, 7), np.int16), np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"volume\.nii' is truncated: its header promises 1360 bytes, it has 1359\."):
        CheckHeaderd("image")({"image": str(path)})
