"""Jobs for NVIDIA FLARE (two JSON files without any code), the classes that a site allows, and federated statistics."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.transforms import CopyItemsd, EnsureTyped, Lambdad, LoadImaged, Orientationd
from torch import nn

from .. import networks
from ..bundles import declaration
from ..data.datalist import load_domain
from ..networks.definition import PUBLIC_PACKAGE
from .policy import refuse_other_kinds, refuse_unlisted
from .site_algo import TRAIN

FLARE = "nvflare.app_common"
TORCH = "nvflare.app_opt.pt"
LIST = "class_allow_list"


@dataclass(frozen=True)
class Declared:
    """Declaration of a bundle's federated training, under `federated` in its metadata.

    Args:
        overlays: Names of overlays of `train.yaml`, in order.
    """

    overlays: tuple[str, ...] = ()


def write_job(
    output_dir: str | Path,
    bundle_root: str | Path,
    *,
    name: str | None = None,
    sites: int = 2,
    rounds: int = 2,
    local_epochs: int = 1,
    overlays: Sequence[str] | None = None,
    dataset_dir: str = "$FEDERATED_DIR/$SITE/data",
    site_output_dir: str = "$FEDERATED_DIR/$SITE/output",
    site_bundle_root: str | None = None,
    initial_weights: str | None = None,
    evaluate: bool = True,
    key_metric: str = "psnr",
    train_options: Mapping[str, Any] | None = None,
) -> Path:
    """Write a job that trains a bundle's generator over several sites by federated averaging.

    In each round the server sends the generator's weights, each site trains on from them, and the server takes the mean
    weighted by the sites' iterations. At the end it sends the last mean, which each site scores and keeps.

    The job names the networks, files and options; each site uses its own copy of the bundle's configuration.

    Args:
        output_dir: Folder of the job.
        bundle_root: Bundle on this machine, which defines the generator.
        name: Name of the job; by default the bundle's.
        sites: Number of sites that must take part.
        rounds: Number of rounds of training.
        local_epochs: Number of epochs per round on each site.
        overlays: YAML files on `train.yaml`, relative to the bundle, such as `configs/demo.yaml`; by default those
            that the bundle declares (`federated` in its metadata), so that sites train the kind of network it ships.
        dataset_dir: Data on each site, see `common.federated.site_path`.
        site_output_dir: Output folder on each site, see `common.federated.site_path`.
        site_bundle_root: Bundle on each site, see `common.federated.site_path`; by default `bundle_root` as an absolute
            path, for FLARE's simulator.
        initial_weights: A `model.pt` on the server; by default random weights.
        evaluate: Whether sites score the global weights, see `SiteAlgo`.
        key_metric: Name of the score that the log shows.
        train_options: Ids of `train.yaml` and their values, of those that `common.federated.policy` lists.

    Returns:
        Folder of the job.

    Raises:
        ValueError: If a number is not positive, an overlay cannot be relative to every site's bundle, or sites refuse
            an option.
    """
    for what, number in {"sites": sites, "rounds": rounds, "local_epochs": local_epochs}.items():
        if not isinstance(number, int) or number < 1:
            raise ValueError(f"`{what}` must be a whole number >= 1, got {number!r}.")
    if isinstance(overlays, str):
        raise ValueError(f"""`overlays` must be a list such as "['configs/demo.yaml']", got {overlays!r}.""")
    if overlays is None:
        declared = declaration(bundle_root, "federated", Declared) or Declared()
        overlays = [f"configs/{name}.yaml" for name in declared.overlays]
    options = {} if train_options is None else train_options
    refuse_unlisted(options, "train_options")
    refuse_other_kinds(options, "train_options", bundle_root, [TRAIN, *overlays])
    network = _network(bundle_root, overlays, options)
    model = {"path": f"{PUBLIC_PACKAGE}.{type(network).__name__}", "args": network.arguments}
    algo = {
        "bundle_root": site_bundle_root or str(Path(bundle_root).resolve()),
        "dataset_dir": dataset_dir,
        "output_dir": site_output_dir,
        "max_epochs": rounds * local_epochs,
        "local_epochs": local_epochs,
        "overlays": list(overlays),
        "evaluate": evaluate,
        "train_options": dict(options),
    }
    name = name or Path(bundle_root).resolve().name
    folder = Path(output_dir)
    meta = {"name": name, "resource_spec": {}, "min_clients": sites, "deploy_map": {"app": ["@ALL"]}}
    _write(folder / "meta.json", meta)
    _write(folder / "app" / "config" / "config_fed_server.json", _server(model, sites, rounds, initial_weights))
    _write(folder / "app" / "config" / "config_fed_client.json", _client(algo, key_metric))
    return folder


def allow_classes(job: str | Path, local_dir: str | Path) -> list[str]:
    """Add the classes that a job names to a site's `class_allow_list`, so that FLARE builds these and no others.

    FLARE refuses jobs with classes outside this list, which contains its own. The owner of the site decides: read the
    returned names, or look into the job's two JSON files. Only the classes of a job that `write_job` writes are added:
    FLARE has others that run commands.

    Args:
        job: Folder of `write_job`.
        local_dir: The site's folder `local`, as FLARE provisioned it; for the simulator, `local` in its workspace.

    Returns:
        Classes that were not in the list before.

    Raises:
        FileNotFoundError: If the job has no configuration.
        ValueError: If the site's list is not a list, or the job names a class that `write_job` does not.
    """
    configs = sorted(Path(job).glob("app/config/config_fed_*.json"))
    if not configs:
        raise FileNotFoundError(f"{str(job)!r} has no app/config/config_fed_*.json: `job` must be a folder of a job.")
    needed = sorted({path for config in configs for path in _paths(json.loads(config.read_text(encoding="utf-8")))})
    if foreign := [path for path in needed if path not in _known_classes()]:
        raise ValueError(
            f"{str(job)!r} must name the classes of a job of `write_job` only, got {', '.join(foreign)[:200]}: add them"
            f" to `{LIST}` by hand if you trust their code."
        )
    file = Path(local_dir) / "resources.json"
    provisioned = file if file.is_file() else file.with_name(f"{file.name}.default")
    resources: dict[str, Any] = {"format_version": 2}
    if provisioned.is_file():
        resources = json.loads(provisioned.read_text(encoding="utf-8"))
    allowed = resources.get(LIST, [])
    if not isinstance(allowed, list):
        raise ValueError(f"`{LIST}` in {str(provisioned)!r} must be a list of class names, got {allowed!r}.")
    added = [path for path in needed if path not in allowed]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**resources, LIST: [*allowed, *added]}, indent=2) + "\n", encoding="utf-8")
    return added


def statistics_workflow(bundle_root: str | Path, dataset_dir: str | Path, domain: str) -> ConfigWorkflow:
    """Describe a bundle's training for `MonaiAlgoStats`, with the training images of one domain as its data.

    Args:
        bundle_root: Folder of the bundle.
        dataset_dir: Data of the site, with a `datalist.json`.
        domain: Domain whose images are summarised: each domain has its own intensities.

    Raises:
        ValueError: If the datalist has no image of that domain in `training`.
    """
    # No validation images: MONAI 1.6.1 adds their histogram to that of the training images in place.
    sections: dict[str, Any] = {"train#dataset": {"data": load_domain(dataset_dir, "training", domain)}}
    sections["validate"] = {}
    return ConfigWorkflow(
        config_file=str(Path(bundle_root, "configs", "train.yaml")),
        workflow_type="train",
        logging_file=False,
        bundle_root=str(bundle_root),
        dataset_dir=str(dataset_dir),
        **sections,
    )


def statistics_transforms() -> list[Any]:
    """Return the transforms with which `MonaiAlgoStats` reads an image, its argument `data_stats_transform_list`.

    Its statistics are those of a segmentation. A translation has no labels: voxels above the image's mean, on a CT the
    body, take their place, and the statistics of the foreground refer to them.
    """
    return [
        LoadImaged(keys="image", ensure_channel_first=True, image_only=True),
        EnsureTyped(keys="image", dtype=torch.float),
        Orientationd(keys="image", axcodes="RAS", labels=None),
        CopyItemsd(keys="image", names="label"),
        Lambdad(keys="label", func=_above_mean),
    ]


def _network(bundle_root: str | Path, overlays: Sequence[str], options: Mapping[str, Any]) -> nn.Module:
    """Build the generator that is trained from its configuration."""
    parser = ConfigParser()
    parser.read_config([str(Path(bundle_root, file)) for file in (TRAIN, *overlays)])
    parser.update({**options, "bundle_root": str(bundle_root)})
    return parser.get_parsed_content("network_def")


def _server(model: Mapping[str, Any], sites: int, rounds: int, initial_weights: str | None) -> dict[str, Any]:
    start = {} if initial_weights is None else {"source_ckpt_file_full_name": initial_weights}
    aggregator = f"{FLARE}.aggregators.intime_accumulate_model_aggregator.InTimeAccumulateWeightedAggregator"
    generator = f"{FLARE}.shareablegenerators.full_model_shareable_generator.FullModelShareableGenerator"
    averaging = {
        "min_clients": sites,
        "num_rounds": rounds,
        "wait_time_after_min_received": 0,
        "aggregator_id": "aggregator",
        "persistor_id": "persistor",
        "shareable_generator_id": "shareable_generator",
        "train_task_name": "train",
    }
    persistor = f"{TORCH}.file_model_persistor.PTFileModelPersistor"
    locator = f"{TORCH}.file_model_locator.PTFileModelLocator"
    results = f"{FLARE}.widgets.validation_json_generator.ValidationJsonGenerator"
    return {
        "format_version": 2,
        "components": [
            _component("persistor", persistor, model=model, **start),
            _component("shareable_generator", generator),
            _component("aggregator", aggregator, expected_data_kind="WEIGHTS"),
            _component("locator", locator, pt_persistor_id="persistor"),
            _component("results", results),
        ],
        "workflows": [
            _component("averaging", f"{FLARE}.workflows.scatter_and_gather.ScatterAndGather", **averaging),
            _component(
                "evaluation", f"{FLARE}.workflows.global_model_eval.GlobalModelEval", model_locator_id="locator"
            ),
        ],
    }


def _client(algo: dict[str, Any], key_metric: str) -> dict[str, Any]:
    executor = {
        "path": "monai_nvflare.client_algo_executor.ClientAlgoExecutor",
        "args": {"client_algo_id": "site", "key_metric": key_metric},
    }
    return {
        "format_version": 2,
        "executors": [{"tasks": ["train", "validate"], "executor": executor}],
        "components": [_component("site", "common.federated.SiteAlgo", **algo)],
    }


def _known_classes() -> set[str]:
    """Return the classes that a job of `write_job` may name: a network, and what the server and the clients run."""
    exported = {name: getattr(networks, name) for name in networks.__all__}
    own = {name for name, value in exported.items() if isinstance(value, type) and issubclass(value, nn.Module)}
    return {f"{PUBLIC_PACKAGE}.{name}" for name in own} | set(_paths([_server({}, 1, 1, None), _client({}, "")]))


def _component(id_: str, path: str, **args: Any) -> dict[str, Any]:
    return {"id": id_, "path": path, "args": args}


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _paths(config: Any) -> Iterator[str]:
    """Collect the classes of a job's components: FLARE names a class by `path`."""
    if isinstance(config, dict):
        if isinstance(config.get("path"), str):
            yield config["path"]
        for value in config.values():
            yield from _paths(value)
    elif isinstance(config, list):
        for value in config:
            yield from _paths(value)


def _above_mean(image: torch.Tensor) -> torch.Tensor:
    return (image > image.mean()).to(image.dtype)
