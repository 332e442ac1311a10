"""The trainer of every bundle, which runs any method, and saves and resumes its full state.

The state consists of plain tensors and numbers.
"""

from __future__ import annotations

import logging
import math
from collections.abc import ItemsView, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer
from monai.utils import CommonKeys
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from ..devices import has_autocast, to_device, without_autocast
from ..distributed import average_gradients, broadcast_weights, check_same_epoch, join_batch_norms, rank
from ..errors import WorkerDiedError, disk_full_names
from ..files import checksum, release_claims, remove_partials
from ..memory import keep_memory
from ..networks.definition import save_definition
from ..tensor_files import DamagedFileError, read_tensors, save_atomically
from .training_log import TrainingLog

logger = logging.getLogger(__name__)
LAST = "last.pt"


class Method(Protocol):
    """The parts of a method that the trainer saves, resumes and moves, and one iteration of it.

    `common.methods.TranslationMethod` is the base class of the methods here.

    Attributes:
        generator: Network that is deployed.
        networks: All networks by name.
        optimizers: Optimizers by name; that of the generator is called `generator`.
        pools: Image pools by name, with `state_dict` and `load_state_dict`.
    """

    generator: nn.Module
    networks: dict[str, nn.Module]
    optimizers: dict[str, Optimizer]
    pools: dict[str, Any]

    def __call__(self, trainer: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Perform an iteration, and return scalar losses and the images to show."""


class IterationOutput(list[dict[str, Any]]):
    """Output of an iteration: a list of one dictionary, as MONAI's handlers take it, that also has its entries by name.

    MONAI's trainers return a list of dictionaries with the loss under `loss`, which `from_engine(["loss"], first=True)`
    reads, as the default settings of `--tracking mlflow` do.

    Args:
        named: Losses and images of the method, by name.
        loss: Loss of the generator; None, which MONAI's handlers leave out, if the iteration did not train it.

    Example:
        >>> output = IterationOutput({"generator": torch.tensor(2.0)}, torch.tensor(2.0))
        >>> output["generator"].item(), output[0]["loss"].item(), "loss" in dict(output.items())
        (2.0, 2.0, False)
    """

    def __init__(self, named: Mapping[str, torch.Tensor], loss: torch.Tensor | None) -> None:
        super().__init__([{**named, CommonKeys.LOSS: loss}])
        self.named = dict(named)

    def __getitem__(self, key: Any) -> Any:
        return self.named[key] if isinstance(key, str) else super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        return key in self.named if isinstance(key, str) else super().__contains__(key)

    def items(self) -> ItemsView[str, torch.Tensor]:
        """Return the entries of the method."""
        return self.named.items()


def training_state(trainer: TranslationTrainer) -> dict[str, Any]:
    """Return the state with which a training continues as if it had not stopped.

    It has no state of random generators: data, transforms and networks are seeded anew for each (seed, epoch), so that
    the state at the end of an epoch determines everything that follows.

    Args:
        trainer: Trainer at the end of an epoch.
    """
    method = trainer.method
    return {
        "epoch": trainer.state.epoch,
        "epoch_length": trainer.state.epoch_length,
        "best_metric": trainer.best_metric,
        "best_epoch": trainer.best_epoch,
        "networks": {name: network.state_dict() for name, network in method.networks.items()},
        "optimizers": {name: optimizer.state_dict() for name, optimizer in method.optimizers.items()},
        "pools": {name: pool.state_dict() for name, pool in method.pools.items()},
        "schedulers": [scheduler.state_dict() for scheduler in trainer.lr_schedulers],
        "scaler": trainer.grad_scaler.state_dict(),
        "ema": None if trainer.ema is None else trainer.ema.state_dict(),
    }


def restore_training(trainer: TranslationTrainer, path: str | Path) -> None:
    """Restore a state of `training_state`.

    Args:
        trainer: Trainer that takes over the state.
        path: File with the state.

    Raises:
        ValueError: If the file is not such a state, or belongs to other networks.
    """
    try:
        state = read_tensors(path, map_location=trainer.state.device)
        epoch = state["epoch"]
    except (DamagedFileError, KeyError, TypeError) as err:
        raise ValueError(
            f"{str(path)!r} is not the state of a training, or is damaged ({type(err).__name__}: {err}). Remove it to"
            " start anew, put a copy of it back, or give another `output_dir`."
        ) from err
    method = trainer.method
    try:
        for group, parts in (("networks", method.networks), ("optimizers", method.optimizers), ("pools", method.pools)):
            if state[group].keys() != parts.keys():
                raise ValueError(f"it holds {group} {sorted(state[group])}, the config has {sorted(parts)}")
            for name, part in parts.items():
                part.load_state_dict(state[group][name])
        for scheduler, saved in zip(trainer.lr_schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        if (trainer.ema is None) != (state["ema"] is None):
            raise ValueError("`ema_decay` is set in only one of the checkpoint and the config")
    except (RuntimeError, ValueError, KeyError) as err:
        raise ValueError(
            f"The training in {str(path)!r} does not fit this config: {str(err).splitlines()[0]}. Resume with the"
            " config that it was started with, give another `--output_dir`, or start anew with `--resume False`."
        ) from err
    _lay_out_as_weights(method.optimizers.values())
    if trainer.ema is not None:
        trainer.ema.load_state_dict(state["ema"])
    trainer.grad_scaler.load_state_dict(state["scaler"])
    trainer.best_metric, trainer.best_epoch = state["best_metric"], state["best_epoch"]
    if (before := state.get("epoch_length", trainer.state.epoch_length)) != trainer.state.epoch_length:
        logger.warning(
            f"An epoch of the training in {str(path)!r} had {before} iterations and now has"
            f" {trainer.state.epoch_length}: it does not go on as it began. With the same data, choose `batch_size` so"
            " that its product with the number of processes is the same as before."
        )
    trainer.state.epoch = epoch
    trainer.state.iteration = epoch * trainer.state.epoch_length


def _lay_out_as_weights(optimizers: Iterable[Optimizer]) -> None:
    """Give the state of optimizers the memory layout of their weights, which a fused one takes for granted."""
    for weight, state in (each for optimizer in optimizers for each in optimizer.state.items()):
        for name, value in state.items():
            if torch.is_tensor(value) and value.shape == weight.shape and value.stride() != weight.stride():
                state[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


class TranslationTrainer(SupervisedTrainer):
    """Train a translation method, save and resume its full state, and select the network to be deployed.

    It is a `SupervisedTrainer` whose `network` is the generator, because MONAI's federated `MonaiAlgo` and MONAI
    Label's training task ask for that type.

    Args:
        device: Device of the networks.
        max_epochs: Number of epochs.
        train_data_loader: Loader of batches with `source` and `target`, (B, C, H, W[, D]) each in [-1, 1].
        method: Method that performs the iterations.
        output_dir: Folder of `last.pt` (full state), `losses.csv`, `validation.csv` and TensorBoard's files; with None
            no file is written.
        models_dir: Folder of `model.pt` (a flat state dict) and `network.json`, which `inference.yaml` reads.
        definition: Facts for `network.json` beside the network's class and arguments, such as codec, domains, spacing.
        deployed_arguments: Constructor arguments of the deployed network that differ from the trained one's; the
            weights must fit both.
        resume: Whether to continue from `output_dir/last.pt` if it exists.
        lr_schedulers: Learning-rate schedulers that are stepped after each epoch.
        validator: Evaluator that runs every `val_interval` epochs on the network to be deployed.
        val_interval: Number of epochs between two validations; the last epoch is always validated.
        validate_first: Whether to validate the network before the first epoch as well, as epoch 0. It is then a
            candidate like any other: a fine-tuning that never improves deploys the weights that it began with.
        key_metric: Metric of the validator that selects the best network; lower is better. Without a validator the
            last network is deployed.
        save_interval: Number of epochs between two saved states; the last one is always saved.
        accumulation_steps: Number of batches whose gradients are added before a step.
        max_grad_norm: 2-norm to which gradients are clipped.
        channels_last: Whether 2-D networks are laid out in memory with their channels last. The same numbers but for
            rounding; faster or slower, see docs/performance.md.
        amp: Whether to use mixed precision in `amp_dtype`; losses stay in float32.
        amp_dtype: Type of mixed precision, `bfloat16`, or `float16` with gradient scaling.
        ema_decay: Decay of the exponential moving average of the generator's weights, which is deployed in place of
            the weights.
        seed: Seed of the networks' random numbers, which are drawn anew in each epoch.
        progress: Whether to show a progress bar.
        log_interval: Number of iterations between two rows of `losses.csv`.
        train_handlers: Further Ignite handlers.
        inferer: Inferer as MONAI's property `train#inferer`; the methods call their networks themselves.

    Raises:
        ValueError: If an argument is out of its range, or a resumed state does not fit.
        FloatingPointError: If a loss is not finite.
        WorkerDiedError: If a process of the data loader ends.
        DiskFullError: If a state or the weights do not fit on the disk; the older files stay as they were.
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: Iterable | DataLoader,
        method: Method,
        *,
        output_dir: str | Path | None = None,
        models_dir: str | Path | None = None,
        definition: dict[str, Any] | None = None,
        deployed_arguments: dict[str, Any] | None = None,
        resume: bool = False,
        lr_schedulers: Sequence[LRScheduler] = (),
        validator: SupervisedEvaluator | None = None,
        val_interval: int = 1,
        validate_first: bool = False,
        key_metric: str = "unpaired_score",
        save_interval: int = 1,
        accumulation_steps: int = 1,
        max_grad_norm: float | None = None,
        channels_last: bool = False,
        amp: bool = False,
        amp_dtype: str = "bfloat16",
        ema_decay: float | None = None,
        seed: int = 0,
        progress: bool = True,
        log_interval: int = 10,
        train_handlers: Sequence | None = None,
        inferer: Inferer | None = None,
    ) -> None:
        if amp_dtype not in ("bfloat16", "float16"):
            raise ValueError(f"`amp_dtype` must be 'bfloat16' or 'float16', got {amp_dtype!r}.")
        if ema_decay is not None and not 0 < ema_decay < 1:
            raise ValueError(f"`ema_decay` must lie between 0 and 1, or be null, got {ema_decay}.")
        if channels_last:
            for network in method.networks.values():
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
            network=method.generator,
            optimizer=method.optimizers["generator"],
            loss_function=_no_loss_function,
            inferer=inferer,
            iteration_update=self._iterate,
            decollate=False,
            train_handlers=train_handlers,
            accumulation_steps=accumulation_steps,
        )
        self.method = method
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.models_dir = None if models_dir is None else Path(models_dir)
        self.definition = definition or {}
        self.deployed_arguments = deployed_arguments
        self.resume = resume
        self.lr_schedulers = list(lr_schedulers)
        self.validator, self.val_interval, self.key_metric = validator, val_interval, key_metric
        self.save_interval = save_interval
        self.max_grad_norm = max_grad_norm
        if amp and not has_autocast(self.state.device):
            logger.warning(f"`amp`: PyTorch has no mixed precision for {self.state.device}, it stays float32.")
            amp = False
        self.mixed_precision, self.amp_dtype = amp, getattr(torch, amp_dtype)
        self.grad_scaler = torch.amp.GradScaler(self.state.device.type, enabled=amp and amp_dtype == "float16")
        self.ema = None
        if ema_decay is not None:
            self.ema = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(ema_decay), use_buffers=True)
        self.seed = seed
        self.best_metric, self.best_epoch = math.inf, 0
        self.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        log = TrainingLog(self.output_dir, log_interval=log_interval, progress=progress)
        log.attach(self, optimizers=method.optimizers, validator=validator)
        if validate_first and validator is not None:
            self.add_event_handler(Events.STARTED, self._validate_start)  # after the log has made its files
        self.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch)

    @property
    def epoch(self) -> int:
        """The current epoch, counted from 1."""
        return int(self.state.epoch)

    @property
    def iteration(self) -> int:
        """The current iteration since the training began, counted from 1."""
        return int(self.state.iteration)

    @property
    def step(self) -> int:
        """The current optimizer step since the training began, counted from 1; without accumulation the iteration."""
        epochs, iteration = divmod(int(self.state.iteration) - 1, int(self.state.epoch_length))
        steps_per_epoch = -(-int(self.state.epoch_length) // self.accumulation_steps)
        return epochs * steps_per_epoch + iteration // self.accumulation_steps + 1

    @property
    def deployed_network(self) -> nn.Module:
        """The generator that `model.pt` holds, which is its moving average if there is one."""
        return self.network if self.ema is None else self.ema.module

    def run(self) -> None:  # type: ignore[override]
        """Train up to `max_epochs`, from the saved state if `resume` is set and there is one."""
        try:
            self._train()
        finally:
            release_claims()  # of `common.preflight`

    def _train(self) -> None:
        keep_memory()
        last = None if self.output_dir is None else self.output_dir / LAST
        if self.resume and self.state.epoch == 0 and last is not None and last.is_file():
            restore_training(self, last)
            logger.info(f"Resumed {last} after epoch {self.epoch}.")
        check_same_epoch(self.epoch, self.state.device)
        if self.epoch >= self.state.max_epochs:
            logger.info(f"The training is complete: {self.epoch} of {self.state.max_epochs} epochs are done.")
            return
        for network in self.method.networks.values():
            join_batch_norms(network)
        broadcast_weights(self.method.networks.values())
        try:
            super().run()
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise WorkerDiedError(
                f"A process that loads the training data died in epoch {self.epoch}, iteration {self.iteration}"
                f" ({error}). Often the memory was full, or the shared memory (/dev/shm): then lower `num_workers` or"
                " `batch_size`. The last saved state is complete: run the same command again to continue from it."
            ) from error

    def autocast(self) -> AbstractContextManager:
        """Return the context of mixed precision on this trainer's device, if it is on."""
        if not self.mixed_precision:
            return without_autocast(self.state.device)
        return torch.autocast(self.state.device.type, dtype=self.amp_dtype)

    def update(self, optimizer: Optimizer | Sequence[Optimizer], loss: torch.Tensor) -> None:
        """Take one step down a loss: scaled backward pass, average over ranks, clipping, step.

        With accumulation the step is taken every `accumulation_steps` batches and at the end of the epoch; a generator
        then sees the discriminator as it was at the last step.

        Args:
            optimizer: Optimizer of the weights, or several.
            loss: Scalar loss of one batch.
        """
        optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer)
        self.grad_scaler.scale(loss / self.accumulation_steps).backward()
        if not self._at_step():
            return
        for each in optimizers:
            parameters = [p for group in each.param_groups for p in group["params"]]
            average_gradients(parameters)  # before the scaler looks for infinities: all ranks skip a step, or none does
            self.grad_scaler.unscale_(each)
            if self.max_grad_norm is not None:
                nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
            self.grad_scaler.step(each)
            each.zero_grad(set_to_none=True)

    def _at_step(self) -> bool:
        iteration = (self.state.iteration - 1) % self.state.epoch_length + 1
        return iteration % self.accumulation_steps == 0 or iteration == self.state.epoch_length

    def _iterate(self, engine: Engine, batch: dict[str, torch.Tensor]) -> IterationOutput:
        tensors = {k: v.as_subclass(torch.Tensor) for k, v in batch.items() if torch.is_tensor(v)}
        batch = {k: to_device(v, self.state.device) for k, v in tensors.items()}
        for network in self.method.networks.values():
            network.train()
        output = self.method(self, batch)
        if self.grad_scaler.is_enabled() and self._at_step():
            self.grad_scaler.update()
        if self.ema is not None and self._at_step():
            self.ema.update_parameters(self.network)
        named = {name: value.detach() for name, value in output.items()}
        only = next(iter(named.values())) if len(self.method.optimizers) == 1 else None
        made = IterationOutput(named, named.get("generator", only))
        self.state.output = made  # type: ignore[assignment]
        self.fire_event(IterationEvents.MODEL_COMPLETED)
        return made

    def _start_epoch(self) -> None:
        entropy = np.random.SeedSequence([self.seed, self.epoch])  # one for all ranks: see `draw_for_each`
        torch.manual_seed(int(entropy.generate_state(1)[0]))
        sampler = getattr(self.data_loader, "sampler", None)
        if sampler is not None and hasattr(sampler, "set_epoch"):
            sampler.set_epoch(self.epoch)

    def _end_epoch(self) -> None:
        for scheduler in self.lr_schedulers:
            scheduler.step()
        final = self.epoch == self.state.max_epochs
        if self.validator is not None and (self.epoch % self.val_interval == 0 or final):
            self._validate()
        elif self.validator is None and (self.epoch % self.save_interval == 0 or final):
            self.save_network()
        if self.output_dir is not None and rank() == 0 and (self.epoch % self.save_interval == 0 or final):
            save_atomically(training_state(self), self.output_dir / LAST)

    def _validate_start(self) -> None:
        if self.epoch == 0:
            self._validate()

    def _validate(self) -> None:
        """Validate, and save the network if it is the best; all ranks compute the same metric, so that none waits."""
        assert self.validator is not None
        self.validator.network = self.deployed_network
        self.validator.run(max(self.epoch, 1))  # MONAI counts an evaluator's epochs from 1
        metrics = self.validator.state.metrics
        if self.key_metric not in metrics:
            raise ValueError(f"`key_metric` must be one of the validator's {sorted(metrics)}, got {self.key_metric!r}.")
        if metrics[self.key_metric] < self.best_metric:
            self.best_metric, self.best_epoch = float(metrics[self.key_metric]), self.epoch
            self.save_network()

    def save_network(self) -> None:
        """Write `model.pt` (flat state dict) and, after it, `network.json`."""
        if self.models_dir is None or rank() != 0:
            return
        path = save_atomically(self.deployed_network.state_dict(), self.models_dir / "model.pt")
        facts = {**self.definition, "ema": self.ema is not None, "epoch": self.epoch, "checksum": checksum(path)}
        path = self.models_dir / "network.json"
        remove_partials(path)
        with disk_full_names(path):
            save_definition(path, self.deployed_network, changes=self.deployed_arguments, **facts)


def _no_loss_function(*_: Any) -> torch.Tensor:
    raise NotImplementedError("A translation method computes its losses itself; see `TranslationTrainer.method`.")
