"""Files of plain tensors: what is damaged is noticed, and nothing in them is executed."""

from __future__ import annotations

import io
import zipfile

import pytest
import torch

from common.tensor_files import DamagedFileError, read_tensors

STATE = {"weight": torch.arange(1000.0).reshape(10, 100), "epoch": 3}


def saved(**options: object) -> bytearray:
    buffer = io.BytesIO()
    torch.save(STATE, buffer, **options)
    return bytearray(buffer.getvalue())


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "torch < 1.6"])
def test_what_was_saved_is_read(zipped, tmp_path):
    (tmp_path / "a.pt").write_bytes(saved(_use_new_zipfile_serialization=zipped))
    state = read_tensors(tmp_path / "a.pt")
    assert state.keys() == STATE.keys()
    assert torch.equal(state["weight"], STATE["weight"])


def test_a_changed_weight_which_torch_reads_is_refused(tmp_path):
    content, path = saved(), tmp_path / "a.pt"
    with zipfile.ZipFile(io.BytesIO(content)) as parts:
        data = next(part for part in parts.infolist() if part.filename.endswith("/data/0"))
    place = content.index(STATE["weight"].numpy().tobytes())
    content[place + 2001] ^= 1
    path.write_bytes(content)
    assert not torch.equal(torch.load(path, weights_only=True)["weight"], STATE["weight"])
    with pytest.raises(DamagedFileError, match=rf"checksum of its part '{data.filename}' does not fit"):
        read_tensors(path)


def test_what_is_cut_short_empty_or_another_thing_is_refused(tmp_path):
    for content in (saved()[:-100], b"", b"half a file", b"PK\x03\x04" + bytes(50)):
        (tmp_path / "a.pt").write_bytes(content)
        with pytest.raises(DamagedFileError):
            read_tensors(tmp_path / "a.pt")


def test_a_pickled_module_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(DamagedFileError, match="Weights only load failed"):
        read_tensors(tmp_path / "a.pt")


def test_an_absent_file_is_the_systems_matter(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "a.pt")
