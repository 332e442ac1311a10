"""Output of a training beside its weights: a progress bar, CSV files, TensorBoard scalars and pictures."""

from __future__ import annotations

import csv
import io
import logging
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch.nn.functional import interpolate
from torch.optim import Optimizer
from tqdm import tqdm

from ..distributed import rank
from ..errors import disk_full_names
from ..files import write_text

logger = logging.getLogger(__name__)
PICTURES = ("real_source", "fake_target", "real_target")


class TrainingLog:
    """The log of a training: progress bar, `losses.csv`, `validation.csv`, and TensorBoard's files if it is installed.

    Args:
        output_dir: Folder of the files; with None no file is written.
        log_interval: Number of iterations between two readings of the losses (a reading waits for the device).
        progress: Whether to show the bar.
    """

    def __init__(self, output_dir: Path | None, *, log_interval: int = 10, progress: bool = True) -> None:
        self.output_dir, self.log_interval, self.progress = output_dir, log_interval, progress
        self.losses: dict[str, float] = {}
        self.started = time.time()
        self.writer: Any = None

    def attach(self, trainer: Engine, *, optimizers: Mapping[str, Optimizer], validator: Engine | None = None) -> None:
        """Log the training of an engine.

        Args:
            trainer: Engine of the training; its output holds the losses and the images named in `PICTURES`.
            optimizers: Optimizers by name; the learning rate of the first is logged.
            validator: Engine whose metrics are written to `validation.csv` whenever it completes.
        """
        self.optimizers = optimizers
        trainer.add_event_handler(Events.STARTED, self._start)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._read_losses)
        if rank() == 0 and self.progress:
            Progress("training", lambda: self.losses).attach(trainer)
        if validator is not None:
            validator.add_event_handler(Events.COMPLETED, self._read_validation, trainer)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._write_pictures)
        trainer.add_event_handler(Events.COMPLETED, self._close)

    def _start(self, trainer: Engine) -> None:
        self.started = time.time()
        if self.output_dir is None or rank() != 0:
            return
        self.output_dir.mkdir(parents=True, exist_ok=True)
        for name, column in (("losses.csv", "iteration"), ("validation.csv", "epoch")):
            _drop_rows_after(self.output_dir / name, column, getattr(trainer.state, column))
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            logger.info("No TensorBoard files: `pip install tensorboard` to have them.")
        else:
            self.writer = SummaryWriter(str(self.output_dir / "tensorboard"))

    def _read_losses(self, trainer: Engine) -> None:
        state: Any = trainer.state
        iteration = state.iteration
        if iteration % self.log_interval and iteration % state.epoch_length:
            return
        self.losses = {k: v.item() for k, v in state.output.items() if k not in PICTURES and v.numel() == 1}
        unsound = [name for name, value in self.losses.items() if not math.isfinite(value)]
        if unsound:
            raise FloatingPointError(
                f"The loss {unsound[0]!r} is {self.losses[unsound[0]]} in epoch {state.epoch}, iteration"
                f" {iteration}. The last saved state is complete. Lower the learning rate, set `max_grad_norm`, or"
                " switch `amp` off."
            )
        rates = [group["lr"] for optimizer in self.optimizers.values() for group in optimizer.param_groups]
        row = {"iteration": iteration, "epoch": state.epoch, **self.losses, "learning_rate": rates[0]}
        row["seconds"] = round(time.time() - self.started, 1)
        self._append("losses.csv", row)
        for name, value in {**self.losses, "learning_rate": rates[0]}.items():
            self._to_tensorboard("add_scalar", f"train/{name}", value, iteration)

    def _read_validation(self, validator: Engine, trainer: Engine) -> None:
        metrics = {name: float(value) for name, value in validator.state.metrics.items()}
        self._append("validation.csv", {"epoch": trainer.state.epoch, **metrics})
        for name, value in metrics.items():
            self._to_tensorboard("add_scalar", f"validation/{name}", value, trainer.state.epoch)

    def _write_pictures(self, trainer: Engine) -> None:
        if self.writer is None:
            return
        state: Any = trainer.state
        images = [state.output[name][0] for name in PICTURES if name in state.output]
        if images:
            self._to_tensorboard("add_image", "source | translated | target", picture(images), state.epoch)

    def _to_tensorboard(self, method: str, *arguments: Any) -> None:
        """Call the TensorBoard writer; on a full disk it is closed, and the training goes on without it."""
        if self.writer is not None:
            try:
                getattr(self.writer, method)(*arguments)
            except OSError as error:
                logger.warning(f"No further TensorBoard files: {error}.")
                self.writer = None

    def _append(self, name: str, row: dict[str, Any]) -> None:
        if self.output_dir is None or rank() != 0:
            return
        path = self.output_dir / name
        columns = list(row)
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                old = csv.DictReader(file)
                known = list(old.fieldnames or [])
                rows = list(old) if set(columns) - set(known) else None
            columns = known + [column for column in columns if column not in known]
            if rows is not None:  # a loss that appears or vanishes with the epoch (auto-encoding) adds a column
                _write_rows(path, columns, rows)
        else:
            _write_rows(path, columns, [])
        with disk_full_names(path), path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, columns).writerow(row)

    def _close(self) -> None:
        self._to_tensorboard("close")
        self.writer = None


class Progress:
    """A progress bar over all iterations of all epochs, with the latest numbers beside it.

    In a log file it writes one line every 15 seconds; Ignite's own bar would write one per iteration.

    Args:
        description: Text in front of the bar.
        numbers: Function that returns the numbers behind the bar.
    """

    def __init__(self, description: str, numbers: Callable[[], Mapping[str, float]] | None = None) -> None:
        self.description, self.numbers = description, numbers
        self.bar: tqdm | None = None

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.COMPLETED | Events.EXCEPTION_RAISED, self._close)

    def _start(self, engine: Engine) -> None:
        total = (engine.state.max_epochs or 1) * (engine.state.epoch_length or 0)
        interval = 0.2 if sys.stderr.isatty() else 15.0
        self.bar = tqdm(total=total, initial=engine.state.iteration, desc=self.description, mininterval=interval)

    def _step(self, engine: Engine) -> None:
        if self.bar is None:
            return
        if (engine.state.max_epochs or 1) > 1:
            self.bar.set_description(f"{self.description}, epoch {engine.state.epoch}", refresh=False)
        if self.numbers is not None:
            self.bar.set_postfix({name: f"{value:.3f}" for name, value in self.numbers().items()}, refresh=False)
        self.bar.update()

    def _close(self, engine: Engine, error: BaseException | None = None) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        if error is not None:
            raise error


def picture(images: list[torch.Tensor]) -> torch.Tensor:
    """Return the middle slices of several images side by side, for display.

    Smaller images are enlarged to the size of the largest by nearest-neighbour interpolation.

    Args:
        images: Images (C, H, W[, D]) in [-1, 1], of which the first channel is shown.

    Returns:
        Picture (1, W, sum of H) in [0, 1].

    Example:
        >>> picture([torch.zeros(1, 2, 2), torch.zeros(1, 16, 16)]).shape
        torch.Size([1, 16, 32])
    """
    slices = [image[0, ..., image.shape[-1] // 2] if image.dim() == 4 else image[0] for image in images]
    size = [max(s.shape[axis] for s in slices) for axis in (0, 1)]
    shown = [interpolate(s[None, None].float().cpu(), size=size)[0, 0].T.flip(0) for s in slices]
    return torch.cat(shown, dim=1).add(1).div(2).clamp(0, 1)[None]


def _write_rows(path: Path, columns: list[str], rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _drop_rows_after(path: Path, column: str, last: int) -> None:
    """Remove the rows after a resumed state, whose iterations are repeated; a new training removes the file."""
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        lines = file.read().splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):  # cut short by a full disk: its number may be cut as well
        lines.pop()
    reader = csv.DictReader(lines)
    rows = [row for row in reader if last and int(row[column]) <= last]
    columns = list(reader.fieldnames or [])
    if rows:
        _write_rows(path, columns, rows)
    else:
        path.unlink()
