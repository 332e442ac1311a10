"""Each bundle in MONAI's federated client, with its own YAML files, on a tiny phantom."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.fl.client import MonaiAlgo, MonaiAlgoStats
from monai.fl.utils.constants import ExtraItems, FlStatistics
from monai.fl.utils.exchange_object import ExchangeObject

from common.data import load_domain
from common.federated import SiteAlgo, statistics_transforms, statistics_workflow
from common.networks import load_definition
from common.phantoms import generate_phantom
from tests.helpers.federated_cases import BUNDLES, CASES

pytestmark = pytest.mark.filterwarnings("ignore:executing the bundle config:UserWarning")
SITE = {ExtraItems.CLIENT_NAME: "north"}


@pytest.fixture(scope="module", autouse=True)
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The site has opened the folder of all temporary files to jobs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDERATED_FOLDERS", str(tmp_path_factory.getbasetemp()))
        yield


@pytest.fixture(scope="module", params=list(CASES))
def bundle(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Made when first asked for, by kind; the data of the site `north`."""
    folder = tmp_path_factory.mktemp("federation")
    made: dict[str, Path] = {}
    for case in CASES.values():
        if case.kind not in made:
            made[case.kind] = folder / case.kind / "north"
            generate_phantom(case.kind, made[case.kind], **case.phantom, workers=1)
    return made


def site_algo(bundle: str, data: Path, output: Path, *overlays: str, **others: Any) -> SiteAlgo:
    case = CASES[bundle]
    algo = SiteAlgo(
        str(BUNDLES / bundle),
        str(data.parent / "$SITE"),
        output_dir=str(output),
        max_epochs=2,
        overlays=[*case.overlays, *overlays],
        train_options=case.options,
        **others,
    )
    algo.initialize(SITE)
    return algo


def weights(algo: SiteAlgo) -> dict[str, np.ndarray]:
    """A copy of what the site sends, as arrays: what FLARE makes of it."""
    return {name: tensor.numpy().copy() for name, tensor in algo.get_weights().weights.items()}


def states(networks: dict[str, torch.nn.Module]) -> dict[str, torch.Tensor]:
    return {f"{name}.{k}": v.clone() for name, network in networks.items() for k, v in network.state_dict().items()}


@dataclass
class Round:
    """What one round of one site left."""

    algo: SiteAlgo
    before: dict[str, np.ndarray]
    after: dict[str, np.ndarray]
    executed: int
    others: dict[str, torch.Tensor]
    replaced: dict[str, np.ndarray]
    other_scores: dict[str, float]
    scores: dict[str, float]

    @property
    def local(self) -> dict[str, torch.nn.Module]:
        """The networks that stay."""
        method = self.algo.trainer.method
        return {name: network for name, network in method.networks.items() if network is not method.generator}


@pytest.fixture(scope="module")
def played(bundle: str, phantoms: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Round:
    """Earlier stages; then initialise, train a round from given weights, score changed weights and the round's."""
    case, output = CASES[bundle], tmp_path_factory.mktemp("output")
    for overlay in case.earlier:
        stage = site_algo(bundle, phantoms[case.kind], output, overlay, evaluate=False)
        stage.train(ExchangeObject(weights=weights(stage)))
        assert stage.evaluate(ExchangeObject(weights=weights(stage))).metrics == {}
    algo = site_algo(bundle, phantoms[case.kind], output)
    before = weights(algo)
    algo.train(ExchangeObject(weights=dict(before)))
    after, executed = weights(algo), algo.get_weights().statistics[FlStatistics.NUM_EXECUTED_ITERATIONS]
    left = Round(algo, before, after, executed, {}, {}, {}, {})
    left.others = states(left.local)
    left.other_scores = algo.evaluate(ExchangeObject(weights={k: v * 3 for k, v in after.items()})).metrics
    left.replaced = weights(algo)
    left.scores = algo.evaluate(ExchangeObject(weights=dict(after))).metrics
    return left


def test_a_round_changes_the_weights_and_counts_its_iterations(played: Round):
    assert played.before.keys() == played.after.keys()
    assert any(not np.array_equal(played.before[name], played.after[name]) for name in played.before)
    assert played.executed == len(played.algo.trainer.data_loader)


def test_only_the_generator_leaves_the_site(bundle: str, played: Round):
    assert played.after.keys() == played.algo.trainer.method.generator.state_dict().keys()
    sent = {array.tobytes() for array in played.after.values() if array.size > 8}
    kept = {tensor.numpy().tobytes() for tensor in played.others.values() if tensor.numel() > 8}
    assert sent.isdisjoint(kept)
    assert bool(kept) == (bundle != "nect2cect")  # whose last stage has no discriminator


def test_global_weights_replace_the_generators_and_no_other_networks(played: Round):
    for name, array in played.replaced.items():
        np.testing.assert_array_equal(array, played.after[name] * 3)
    for name, value in states(played.local).items():
        assert torch.equal(value, played.others[name]), name


def test_the_scores_are_those_of_the_weights_that_were_sent(played: Round):
    assert np.isfinite(list(played.scores.values())).any()
    assert all(type(value) is float for value in played.scores.values())
    assert {k for k in played.scores if played.scores[k] != played.other_scores[k] and np.isfinite(played.scores[k])}


def test_the_site_keeps_the_global_weights_with_their_network(played: Round):
    models = Path(played.algo.models_dir)
    saved = torch.load(models / "model.pt", weights_only=True)
    for name, array in played.after.items():
        np.testing.assert_array_equal(saved[name].numpy(), array)
    load_definition(models, {}).load_state_dict(saved)
    assert json.loads((models / "network.json").read_text())["federated"] == {"site": "north"}


def test_weights_of_another_network_are_refused(played: Round):
    name = next(iter(played.after))
    fewer = {key: value for key, value in played.after.items() if key != name}
    for wrong in (fewer, {**played.after, "extra": np.zeros(1)}, {**played.after, name: np.zeros((1, 2, 3))}, {}):
        for use in (played.algo.train, played.algo.evaluate):
            with pytest.raises(ValueError, match=r"the global weights must be those of this site's \w+, but"):
                use(ExchangeObject(weights=wrong))


def test_monai_algo_alone_trains_and_validates_with_the_yaml_files(phantoms: dict[str, Path], tmp_path: Path):
    (example,) = re.findall(r"```python\n(.*?)```", (BUNDLES.parent / "docs" / "federated.md").read_text(), re.DOTALL)
    places = {"bundles/": f"{BUNDLES}/", "DATA": str(phantoms["brain"]), "OUT": str(tmp_path)}
    names: dict[str, Any] = {}
    exec(re.sub("|".join(places), lambda match: places[match.group()], example), names)
    # The example has no overlay for small images.
    generator = {"_target_": "common.networks.CompactGenerator", "channels": [8, 8], "num_res_units": 1}
    discriminator = {"num_scales": 1, "num_layers": 2, "channels": 4}
    names["options"].update(CASES["nec_t1t2"].options, network_def=generator)
    names["options"].update({f"discriminator_def#{key}": value for key, value in discriminator.items()})
    algo: MonaiAlgo = names["algo"]
    algo.initialize(SITE)
    start = ExchangeObject(weights={k: v.clone() for k, v in algo.trainer.network.state_dict().items()})
    algo.train(start)
    difference = algo.get_weights().weights
    assert max(float(value.abs().max()) for value in difference.values()) > 0
    assert np.isfinite(algo.evaluate(start).metrics["unpaired_score"])


def test_monai_algo_stats_counts_the_voxels_of_a_domains_training_images(
    bundle: str, phantoms: dict[str, Path], tmp_path: Path
):
    case = CASES[bundle]
    workflow = statistics_workflow(BUNDLES / bundle, phantoms[case.kind], case.domain)
    stats = MonaiAlgoStats(str(BUNDLES / bundle), workflow=workflow, data_stats_transform_list=statistics_transforms())
    stats.initialize({**SITE, ExtraItems.APP_ROOT: str(tmp_path)})
    asked = {FlStatistics.HIST_BINS: [8], FlStatistics.HIST_RANGE: [[-1e5, 1e5]]}
    found = stats.get_data_stats(asked).statistics["train"]
    images = [nib.load(entry["image"]) for entry in load_domain(phantoms[case.kind], "training", case.domain)]
    assert (found[FlStatistics.DATA_COUNT], found[FlStatistics.FAIL_COUNT]) == (len(images), 0)
    (histogram,) = found[FlStatistics.DATA_STATS]["image_histogram"]["histogram"]
    assert sum(histogram["counts"]) == sum(np.asarray(image.dataobj).size for image in images)


def test_a_site_with_less_than_a_batch_is_refused(phantoms: dict[str, Path], tmp_path: Path):
    algo = SiteAlgo(
        str(BUNDLES / "nec_t1t2"),
        str(phantoms["brain"]),
        output_dir=str(tmp_path),
        max_epochs=1,
        overlays=CASES["nec_t1t2"].overlays,
        train_options={**CASES["nec_t1t2"].options, "batch_size": 99},
    )
    with pytest.raises(ValueError, match="site 'north' has 3 images to train on, less than one batch of 99"):
        algo.initialize(SITE)


def test_a_site_without_data_is_told_so(tmp_path: Path):
    algo = SiteAlgo(str(BUNDLES / "ggcl"), str(tmp_path / "$SITE"), output_dir=str(tmp_path), max_epochs=1)
    with pytest.raises(FileNotFoundError, match=r"`dataset_dir` '.*/north' does not exist"):
        algo.initialize(SITE)


@pytest.mark.parametrize("place", ["bundle_root", "dataset_dir", "output_dir"])
def test_a_job_that_names_a_folder_which_the_site_has_not_opened_is_refused(tmp_path: Path, place: str):
    elsewhere = {"bundle_root": "/opt/bundle", "dataset_dir": "/etc", "output_dir": "/opt/out"}[place]
    places = {"bundle_root": str(BUNDLES / "ggcl"), "dataset_dir": str(tmp_path), "output_dir": str(tmp_path / "out")}
    algo = SiteAlgo(**{**places, place: elsewhere}, max_epochs=1)
    with pytest.raises((ValueError, FileNotFoundError), match=f"{place}.*opened to jobs|has no file"):
        algo.initialize(SITE)


@pytest.mark.parametrize("epochs", [(1, 2), (0, 0), (3, 0)])
def test_epoch_counts_must_fit(epochs: tuple[int, int]):
    with pytest.raises(ValueError, match="`local_epochs` must be >= 1 and `max_epochs`"):
        SiteAlgo("bundle", "data", max_epochs=epochs[0], local_epochs=epochs[1])


def test_a_site_that_was_not_initialised_has_no_trainer():
    with pytest.raises(RuntimeError, match=r"`SiteAlgo\.initialize` must be called first"):
        _ = SiteAlgo("bundle", "data", max_epochs=1).trainer
