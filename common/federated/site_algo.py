"""MONAI's federated client for a bundle of this project, on the machine of one site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.fl.client import ClientAlgo, MonaiAlgo
from monai.fl.client.monai_algo import convert_global_weights
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject
from monai.networks.utils import copy_model_state, get_state_dict

from ..engines.trainer import TranslationTrainer
from ..files import shown
from .checks import (
    check_configuration,
    check_weights,
    refuse_empty_epochs,
    refuse_foreign_files,
    refuse_foreign_folders,
    site_path,
)
from .policy import refuse_other_kinds, refuse_unlisted

TRAIN = "configs/train.yaml"
EVALUATE = ["configs/inference.yaml", "configs/evaluate.yaml"]


class SiteAlgo(ClientAlgo):
    """Client that trains a bundle's generator on a site's images, and scores the global generator on its test patients.

    Two `MonaiAlgo` do the work, each with YAML files of the bundle: one runs `train.yaml`, the other `inference.yaml`
    with `evaluate.yaml`. The second builds the network from `network.json`, which the first one's training writes:
    hence it is started after it.

    Only the state dict of the generator leaves the site, with the number of iterations and the mean scores.
    Discriminators, second generators, optimizers, image pools and the moving average of weights stay; the file
    `training/last.pt` holds them, for inspection: a round starts from global weights, and nothing is resumed from it.

    Args:
        bundle_root: Folder of the bundle. This and the other paths may contain `$SITE` and environment variables, see
            `common.federated.site_path`.
        dataset_dir: Data of the site, with a `datalist.json`.
        output_dir: Output folder for `models/` (the global weights of the last evaluation, with `network.json`),
            `training/` and `evaluation/`.
        max_epochs: Number of epochs of the whole training, rounds times `local_epochs`, after which the learning rate's
            schedule ends.
        local_epochs: Number of epochs per round.
        overlays: Further YAML files on `train.yaml`, relative to `bundle_root`.
        evaluate: Whether to score the global weights each round. A stage without an evaluation needs False.
        train_options: Ids of `train.yaml` that the site's policy lists, and their plain values, see
            `common.federated.policy`.
        evaluate_options: Likewise ids of `inference.yaml` and `evaluate.yaml`.
        filters: YAML file of `MonaiAlgo`'s filters of the sent data, relative to `bundle_root`.

    Raises:
        ValueError: If an epoch count is not positive, or an option is not listed or not plain; in `initialize`, if a
            folder lies outside of those that the site has opened to jobs, see
            `common.federated.checks.refuse_foreign_folders`.
    """

    def __init__(
        self,
        bundle_root: str,
        dataset_dir: str,
        *,
        output_dir: str = "$APP_ROOT/output",
        max_epochs: int,
        local_epochs: int = 1,
        overlays: Sequence[str] = (),
        evaluate: bool = True,
        train_options: Mapping[str, Any] | None = None,
        evaluate_options: Mapping[str, Any] | None = None,
        filters: str | None = None,
    ) -> None:
        if not all(type(count) is int for count in (local_epochs, max_epochs)) or not 1 <= local_epochs <= max_epochs:
            raise ValueError(
                "`local_epochs` must be >= 1 and `max_epochs`, of all rounds together, not less, as whole numbers: got"
                f" {shown(local_epochs)} and {shown(max_epochs)}."
            )
        self.bundle_root, self.dataset_dir, self.output_dir = bundle_root, dataset_dir, output_dir
        self.max_epochs, self.local_epochs = max_epochs, local_epochs
        self.train_files = [TRAIN, *overlays]
        self.with_evaluation = evaluate
        refuse_unlisted({} if train_options is None else train_options, "train_options")
        refuse_unlisted({} if evaluate_options is None else evaluate_options, "evaluate_options")
        self.train_options, self.evaluate_options = dict(train_options or {}), dict(evaluate_options or {})
        self.filters = filters
        self.training: MonaiAlgo | None = None
        self.evaluation: MonaiAlgo | None = None

    @property
    def trainer(self) -> TranslationTrainer:
        """The site's trainer, whose `method` holds what is not shared.

        Raises:
            RuntimeError: Before `initialize`.
        """
        trainer = self._started().trainer
        assert isinstance(trainer, TranslationTrainer)
        return trainer

    def _started(self) -> MonaiAlgo:
        if self.training is None:
            raise RuntimeError("`SiteAlgo.initialize` must be called first: there is no trainer yet.")
        return self.training

    def initialize(self, extra: dict | None = None) -> None:
        """Build the site's training and its evaluation.

        Args:
            extra: Facts from the federated system, above all `ExtraItems.CLIENT_NAME` and `ExtraItems.APP_ROOT`.

        Raises:
            ValueError: If an id of the options or overlays has no use, an option is of another kind than in the
                bundle, the site has less than a batch of images, or the job contained the bundle.
            FileNotFoundError: If the site's data or a file of its bundle does not exist.
        """
        extra = dict(extra or {})
        site = {"site": str(extra.get(ExtraItems.CLIENT_NAME, "site")), "app_root": extra.get(ExtraItems.APP_ROOT, "")}
        bundle_root = str(Path(site_path(self.bundle_root, **site)).resolve())
        files = [*self.train_files, *([self.filters] if self.filters else [])]
        refuse_foreign_files(bundle_root, files, app_root=site["app_root"])
        refuse_other_kinds(self.train_options, "train_options", bundle_root, self.train_files)
        refuse_other_kinds(self.evaluate_options, "evaluate_options", bundle_root, EVALUATE)
        output = Path(site_path(self.output_dir, **site)).resolve()
        data = site_path(self.dataset_dir, **site)
        named = {"bundle_root": bundle_root, "dataset_dir": data, "output_dir": str(output)}
        refuse_foreign_folders(named, app_root=site["app_root"])
        places = {"dataset_dir": data, "models_dir": str(output / "models")}
        options = {**places, "output_dir": str(output / "training"), **self._training_options()}
        options |= check_configuration(bundle_root, self.train_files, options)
        self.training = MonaiAlgo(
            bundle_root,
            local_epochs=self.local_epochs,
            send_weight_diff=False,
            config_train_filename=self.train_files,
            train_kwargs=options,
            config_evaluate_filename=None,
            config_filters_filename=self.filters,
        )
        self.training.initialize(extra)
        refuse_empty_epochs(self.trainer, site["site"])
        self.trainer.definition["federated"] = {"site": site["site"]}
        # Only global weights are to lie in `models/`: the trainer would write the site's own at each epoch's end.
        self.models_dir, self.trainer.models_dir = self.trainer.models_dir, None
        self._deploy(get_state_dict(self.trainer.network))
        if self.with_evaluation:
            self.evaluation = self._build_evaluation(bundle_root, output, places)
            self.evaluation.initialize(extra)

    def _training_options(self) -> dict[str, Any]:
        """Return the options of a round, which starts from the global weights and from nothing else."""
        fixed = {"resume": False, "ema_decay": None, "train#trainer#validator": None, "max_epochs": self.max_epochs}
        return {**fixed, **self.train_options}

    def _build_evaluation(self, bundle_root: str, output: Path, places: Mapping[str, str]) -> MonaiAlgo:
        # The handler that loads `models/model.pt` would put these weights in the place of those to be scored.
        options = {"handlers": [], "output_dir": str(output / "evaluation"), "training_dir": str(output / "training")}
        return MonaiAlgo(
            bundle_root,
            config_train_filename=None,
            config_evaluate_filename=EVALUATE,
            eval_kwargs={**places, **options, **self.evaluate_options},
            eval_workflow_name="infer",
        )

    def train(self, data: ExchangeObject, extra: dict | None = None) -> None:
        """Perform one round: `local_epochs` epochs, starting from the global weights.

        Args:
            data: Global weights.
            extra: Passed on to `MonaiAlgo`.

        Raises:
            ValueError: If the weights are not those of the site's generator.
        """
        check_weights(self.trainer.network, data.weights)
        self._started().train(data, extra)

    def get_weights(self, extra: dict | None = None) -> ExchangeObject:
        """Return the generator's weights after the round, and the number of iterations that weights them."""
        return self._started().get_weights(extra)

    def evaluate(self, data: ExchangeObject, extra: dict | None = None) -> ExchangeObject:
        """Keep the global weights in `models/`, and score them on the site's test patients.

        Args:
            data: Global weights.
            extra: Passed on to `MonaiAlgo`.

        Returns:
            Means over the patients; none without `evaluate`.

        Raises:
            ValueError: If the weights are not those of the site's generator.
        """
        check_weights(self.trainer.network, data.weights)
        self._deploy(data.weights or {})
        if self.evaluation is None:
            return ExchangeObject(metrics={})
        scored = self.evaluation.evaluate(data, extra)
        return ExchangeObject(metrics={name: float(value) for name, value in scored.metrics.items()})

    def abort(self, extra: dict | None = None) -> None:
        """Stop a running round."""
        for algo in (self.training, self.evaluation):
            if algo is not None:
                algo.abort(extra)

    def finalize(self, extra: dict | None = None) -> None:
        """End the site's part."""
        for algo in (self.training, self.evaluation):
            if algo is not None:
                algo.finalize(extra)

    def _deploy(self, weights: Mapping[str, Any]) -> None:
        """Load weights into the trainer's network, as a round does anyway, and write them to `models/`."""
        trainer = self.trainer
        state, _ = convert_global_weights(weights, get_state_dict(trainer.network))
        copy_model_state(src=state, dst=trainer.network)
        trainer.models_dir = self.models_dir
        trainer.save_network()
        trainer.models_dir = None
