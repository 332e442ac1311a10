"""The rows of a training that was interrupted, and states that do not fit on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.data import MetaTensor
from torch.utils.data import DataLoader, Dataset

from common.engines import TranslationTrainer
from common.engines.training_log import TrainingLog
from common.errors import DiskFullError, WorkerDiedError
from tests.helpers.limits import file_size_limit
from tests.helpers.trainers import losses, trainer, weights


@pytest.mark.parametrize("kept", [1, -1, -4, -30])
def test_a_row_that_was_cut_is_written_again(tmp_path, kept):
    """Its number may be cut as well: iteration 4 of "4" and of "41" look alike."""
    whole = trainer("nec", tmp_path / "whole")
    whole.run()
    trainer("nec", tmp_path / "part", epochs=2, resume=True).run()
    path = tmp_path / "part/out/losses.csv"
    text = path.read_bytes()
    last = text.splitlines(keepends=True)[-1]
    path.write_bytes(text + last[:kept])
    trainer("nec", tmp_path / "part", resume=True).run()
    assert losses(path) == losses(tmp_path / "whole/out/losses.csv")


@pytest.mark.parametrize("content", [b"", b"itera", b"iteration,epoch\r\n"])
def test_a_file_without_rows_is_begun_anew(tmp_path, content):
    trainer("nec", tmp_path / "whole", epochs=1).run()
    path = tmp_path / "part/out/losses.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    trainer("nec", tmp_path / "part", epochs=1, resume=True).run()
    assert losses(path) == losses(tmp_path / "whole/out/losses.csv")


class MetaImages(Dataset):
    """As MONAI's transforms give them: tensors with meta data, which a file of plain tensors cannot hold."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, MetaTensor]:
        generator = torch.Generator().manual_seed(index)
        images = torch.rand(2, 1, 32, 32, generator=generator) * 2 - 1
        return {"source": MetaTensor(images[0]), "target": MetaTensor(images[1])}


def on_meta_images(folder: Path, epochs: int) -> TranslationTrainer:
    run = trainer("cyclegan", folder, epochs=epochs, resume=True)
    run.state.dataloader = run.data_loader = DataLoader(MetaImages(), 2)
    run.run()
    return run


def test_a_training_on_tensors_with_meta_data_is_resumed(tmp_path):
    whole = on_meta_images(tmp_path / "whole", 3)
    on_meta_images(tmp_path / "part", 1)
    torch.testing.assert_close(weights(on_meta_images(tmp_path / "part", 3)), weights(whole), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's
@pytest.mark.parametrize(("size", "name"), [(100, "losses.csv"), (3_000, "model.pt"), (40_000, "last.pt")])
def test_a_full_disk_keeps_the_older_state(tmp_path, size, name):
    whole = trainer("nec", tmp_path / "whole")
    whole.run()
    trainer("nec", tmp_path / "part", epochs=1).run()
    sizes = [(tmp_path / "part" / path).stat().st_size for path in ("models/model.pt", "out/last.pt")]
    assert 3_000 < sizes[0] < 40_000 < sizes[1]
    before = (tmp_path / "part/out/last.pt").read_bytes()
    full = trainer("nec", tmp_path / "part", resume=True)
    with file_size_limit(size), pytest.raises(DiskFullError, match=rf"{name}'.* could not be written: File too large"):
        full.run()
    assert (tmp_path / "part/out/last.pt").read_bytes() == before
    assert not list(tmp_path.rglob(".*"))
    again = trainer("nec", tmp_path / "part", resume=True)
    again.run()
    torch.testing.assert_close(weights(again), weights(whole), rtol=0, atol=0)


def test_tensorboard_without_room_does_not_end_a_training(tmp_path, caplog):
    class Full:
        def __getattr__(self, _: str):
            raise OSError(28, "No space left on device")

    run = trainer("nec", tmp_path, epochs=1)
    log = TrainingLog(None, progress=False)
    log.writer = Full()
    log.attach(run, optimizers=run.method.optimizers)
    run.run()
    assert caplog.text.count("No further TensorBoard files: [Errno 28] No space left on device.") == 1
    assert len(losses(tmp_path / "out/losses.csv")) == 2


class Dying(Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")


def test_a_dead_worker_is_named_with_the_cure(tmp_path):
    run = trainer("nec", tmp_path)
    run.state.dataloader = run.data_loader = DataLoader(Dying(), 2)
    with pytest.raises(WorkerDiedError, match=r"in epoch 1, iteration \d .*pid 7.*`num_workers`.*same command again"):
        run.run()
