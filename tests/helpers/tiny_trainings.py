"""Every bundle's trainings at a size of seconds, alone or shared out among the ranks of `torchrun`."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from torch.utils.data import default_collate

from common.distributed import processes, rank

from .bundles import ROOT

JOINED_BATCH = 4
EPOCHS = 3  # of two steps each
AFTER = 2  # the epoch after which a training is resumed by another number of ranks
KERNELS = {
    "image_size": 32,
    "discriminator_def#num_layers": 4,
    "num_patches": 16,
    "critic_steps": 2,
    "channels": 8,
    "num_res_blocks": 1,
    "discriminator_channels": 4,
}
NEC = {
    "image_size": 64,
    "spacing_mm": [1.0, 1.0, -1],
    "network_def": {"_target_": "common.networks.CompactGenerator", "channels": [8, 8], "num_res_units": 1},
    "discriminator_def#num_scales": 2,
    "discriminator_def#num_layers": 2,
    "discriminator_def#channels": 4,
}
NECT = {
    "training_list": "training",
    "image_size": 64,
    "spacing_mm": [1.0, 1.0],
    "channels": [8, 8],
    "spade_channels": 4,
    "classifier_width": 2,
    "discriminator_channels": [8, 8],
    "classifier_epochs": EPOCHS,
}
SUPER_RESOLUTION = {
    "factor": 2,
    "patch_size": 12,
    "spacing_mm": [1.0, 1.0],
    "mask_key": None,
    "grey_levels": [-1000, 0],
    "channels": 8,
    "num_res_blocks": 1,
    "discriminator_channels": 4,
    "target_discriminator_layers": 2,
    "source_discriminator_layers": 1,
    "pool_size": 6,  # full after two steps of an epoch, so that it gives older images back
}


class Case(NamedTuple):
    """A training of a bundle: `train.yaml`, overlays, and what makes it tiny."""

    bundle: str
    overlays: tuple[str, ...]
    options: dict[str, Any]


CASES = {
    "ggcl": Case("ggcl", (), KERNELS),
    "ggcl_official": Case("ggcl", ("official",), KERNELS),
    "ggcl_physics": Case("ggcl", ("physics",), KERNELS),
    "kcgan": Case("kcgan_kernel_conversion", (), KERNELS),
    "nec": Case("nec_t1t2", (), NEC),
    "nec_official": Case("nec_t1t2", ("official",), NEC),
    "nect_classifier": Case("nect2cect", ("train_classifier",), NECT),
    "nect_removal": Case("nect2cect", ("train_contrast_removal",), NECT),
    "nect_enhancement": Case("nect2cect", (), NECT),
    "nect_joint": Case("nect2cect", ("train_joint",), NECT),
    "sr_cyclegan": Case("sr_cyclegan", (), SUPER_RESOLUTION),
    "sr_unit": Case("sr_cyclegan", ("sr_unit",), SUPER_RESOLUTION),
}
STAGES: dict[str, dict[str, str]] = {name: {} for name in CASES}  # which finished stages stand for which networks
STAGES["nect_enhancement"] = {"classifier": "nect_classifier", "remover": "nect_removal"}
STAGES["nect_joint"] = {"classifier": "nect_classifier"}
DOMAINS = {
    "ggcl": ("B30f", "B50f", "B70f"),
    "kcgan_kernel_conversion": ("B30f", "B50f", "B70f"),
    "nec_t1t2": ("T1", "T2"),
    "nect2cect": ("NECT", "CECT"),
    "sr_cyclegan": ("clinical", "micro"),
}


def write_images(folder: Path) -> None:
    """Two patients of noise in each domain of each bundle, and their datalists."""
    rng = np.random.default_rng(0)
    for bundle, domains in DOMAINS.items():
        entries = []
        for number, domain in enumerate(domain for domain in domains for _ in range(2)):
            path = folder / bundle / f"{number}_{domain}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            spacing = 0.5 if domain == "micro" else 1.0
            volume = rng.integers(-1000, 400, (64, 64, 6)) + (1100 if bundle == "nec_t1t2" else 0)
            nib.save(nib.Nifti1Image(volume.astype(np.int16), np.diag([-spacing, -spacing, 1.0, 1.0])), path)
            entries.append({"image": path.name, "domain": domain, "patient": str(number)})
        (folder / bundle / "datalist.json").write_text(json.dumps({"training": entries}))


def parsed(name: str, root: Path, out: Path, *overlays: str, **more: object) -> ConfigParser:
    """The configs of a training, with Adam's epsilon so large that it does not blow up rounding."""
    case = CASES[name]
    configs = ROOT / "bundles" / case.bundle / "configs"
    parser = ConfigParser()
    parser.read_config([str(configs / f"{file}.yaml") for file in ("train", *case.overlays, *overlays)])
    options = {
        "bundle_root": str(configs.parent),
        "dataset_dir": str(root / "images" / case.bundle),
        "models_dir": str(out / "models"),
        "max_epochs": EPOCHS,
        "samples_per_epoch": 2 * JOINED_BATCH,
        "batch_size": JOINED_BATCH // processes(),
        "learning_rate": 0.001,
        "optimizer#eps": 0.001,
        "discriminator_optimizer#eps": 0.001,
        "train#trainer#validator": None,
        "train#trainer#progress": False,
        "train#trainer#output_dir": str(out),
        "train#trainer#models_dir": str(out / "models"),
        **case.options,
    }
    for part, stage in STAGES[name].items():
        options[part] = f"$common.networks.load_stage({str(root / 'single' / stage / 'models')!r}, made_by='')"
    parser.update({**options, **more})
    return parser


def collate_doubles(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """A batch whose images are float64."""
    batch = {key: value.as_subclass(torch.Tensor) for key, value in default_collate(items).items()}
    return {key: value.double() if value.is_floating_point() else value for key, value in batch.items()}


def train(name: str, root: Path, out: Path, *overlays: str, **more: object) -> dict[str, Any]:
    """
    Trains, from the state in `out` where there is one; in float64, in which rounding stays far below what is tested.

    In float32 a GAN blows up the rounding, which depends on the batch's parts, by orders of magnitude in a few steps.

    Args:
        name: of the case.
        root: has the images, and in `single/` the stages that others need.
        out: gets the state; `after.pt` is the one after epoch `AFTER`.
        overlays: more configs.
        more: further options.

    Returns:
        `weights`, `pools` and `optimizers`' states by name; `samples`: the sums of an iteration's images; `rates`: the
        learning rates of each epoch.
    """
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return _train(parsed(name, root, out, *overlays, **more), out)
    finally:
        torch.set_default_dtype(default)


def _train(parser: ConfigParser, out: Path) -> dict[str, Any]:
    parser.get_parsed_content("start_up")
    trainer = parser.get_parsed_content("train#trainer")
    for network in trainer.method.networks.values():
        network.double()
    trainer.data_loader.collate_fn = collate_doubles
    samples: dict[int, torch.Tensor] = {}
    rates: dict[int, list[float]] = {}

    def note() -> None:
        images = next(image for key, image in trainer.state.batch.items() if key in ("image", "source"))
        samples[trainer.iteration] = images.flatten(1).sum(1)
        rates[trainer.epoch] = [g["lr"] for o in trainer.method.optimizers.values() for g in o.param_groups]

    def keep() -> None:
        if trainer.epoch == AFTER and rank() == 0:
            shutil.copyfile(out / "last.pt", out / "after.pt")

    trainer.add_event_handler(Events.ITERATION_STARTED, note)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, keep)
    trainer.run()
    weights = {n: network.state_dict() for n, network in trainer.method.networks.items()}
    pools = {n: pool.images for n, pool in trainer.method.pools.items()}
    return {"weights": weights, "pools": pools, "samples": samples, "rates": rates}


def main(root: Path) -> None:
    """On each rank: every training from its start, and from the state that a single process left."""
    torch.distributed.init_process_group("gloo")
    start_up = ["$monai.utils.set_determinism(@seed)"]  # a group cannot be made twice in a process
    for name in CASES:
        for kind in ("ranks", "resumed"):
            out = root / kind / name
            found = train(name, root, out, "multi_gpu_train", start_up=start_up)
            torch.save(found, out / f"rank{rank()}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
