"""Fine-tune the weights of a bundle on one's own scans, and say whether to keep the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .bundles import declaration, find_bundle, find_bundles, training_stages
from .data.datalist import read_datalist
from .demo import config_files, run_command, short_path
from .files import write_json
from .metrics.summary import read_rows
from .reports.finetuning import compare_before

OVERLAY = Path("configs", "finetune.yaml")
RESULT = "finetuning.json"
NO_TEST = (
    "The datalist in {folder} has no patient in `test`, so nothing could say whether fine-tuning helped: hold some out,"
    " e.g. `python -m common datalist {folder} ... --split 0.6,0.2,0.2 --replace`."
)


@dataclass(frozen=True)
class Finetuning:
    """Declaration of how a bundle is fine-tuned, under `finetuning` in its metadata.

    Args:
        overlays: Overlays of `train.yaml` before `finetune.yaml`.
        paired: Further ones where the datalist has scans in pairs, in `training_paired`.
        stage_overlays: Overlays of `train.yaml` for the trainings before the fine-tuning, see `training_stages`.
        stage: Ids and values of those trainings.
        evaluation: Ids of `evaluate.yaml` and their values.
    """

    overlays: tuple[str, ...] = ()
    paired: tuple[str, ...] = ()
    stage_overlays: tuple[str, ...] = ()
    stage: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)


def run_finetuning(
    bundle: str, dataset_dir: str, output_dir: str, *, pretrained_dir: str | None = None, overlays: str = "", **ids: Any
) -> None:
    """Fine-tune weights, score them and those that they began with on the test patients, and report.

    Args:
        bundle: A folder in `bundles`, or the path of another bundle.
        dataset_dir: Data folder with a datalist that holds out test patients.
        output_dir: Folder of the new weights (`models`), `finetuning.json`, `metrics.csv` and `report.html`.
        pretrained_dir: Folder with the `model.pt` and `network.json` to begin with; default: the bundle's `models`.
        overlays: Further overlays of `train.yaml` between the bundle's and `finetune.yaml`, separated by commas, e.g.
            `baselines/supervised`.
        ids: Ids of the training's config and their values, such as `max_epochs`.

    Raises:
        ValueError: If there is no such bundle, it cannot be fine-tuned, or no patient is held out.
        SystemExit: If a command fails.
    """
    root = find_bundle(bundle, among=[root for root in find_bundles() if (root / OVERLAY).is_file()])
    if not (root / OVERLAY).is_file():
        raise ValueError(f"`bundle` must be one with a file {OVERLAY.as_posix()}, got {str(root)!r}.")
    datalist, folder = read_datalist(dataset_dir)
    if not datalist.get("test"):
        raise ValueError(NO_TEST.format(folder=folder))
    more = tuple(name for name in overlays.split(",") if name)
    in_pairs = bool(datalist.get("training_paired"))
    for command in finetuning_commands(root, dataset_dir, output_dir, pretrained_dir, more, ids, in_pairs=in_pairs):
        run_command(command)
    comparison = compare_before(read_rows(Path(output_dir, "metrics.csv")))
    if comparison is None:
        raise ValueError(f"{output_dir}/metrics.csv must score the weights before and after, but has no such pair.")
    write_json(Path(output_dir, RESULT), asdict(comparison))
    print(f"\n{comparison.text}")
    print(f"Weights: {Path(output_dir, 'models')}   report: {Path(output_dir, 'report.html')}   Research use only.")


def finetuning_commands(
    root: Path,
    dataset_dir: str | Path,
    output_dir: str | Path,
    pretrained_dir: str | Path | None = None,
    more: tuple[str, ...] = (),
    ids: Mapping[str, Any] | None = None,
    *,
    in_pairs: bool = False,
) -> list[list[str]]:
    """Return the commands of a fine-tuning, in order, without `python -m`.

    Args:
        root: The bundle's folder.
        dataset_dir: Data folder.
        output_dir: Folder of all outputs.
        pretrained_dir: Folder of the weights to begin with; None: the bundle's `models`.
        more: Overlays between the bundle's and its last one.
        ids: Ids of the training's config and their values.
        in_pairs: Whether the datalist has scans in pairs.
    """
    plan = declaration(root, "finetuning", Finetuning) or Finetuning()
    out, before = Path(output_dir), Path(pretrained_dir or root / "models")
    bundle = ["--bundle_root", short_path(root), "--models_dir", str(out / "models"), "--dataset_dir", str(dataset_dir)]
    training = [*bundle, "--output_dir", str(out / "training")]
    run = ["monai.bundle", "run"]
    overlays = (*plan.overlays, *(plan.paired if in_pairs else ()), *more)
    stages = [config_files(root, "train", *plan.stage_overlays, stage.stem) for stage in training_stages(root)]
    return [
        *([*run, "training", *files, *training, *_options(plan.stage)] for files in stages),
        [*run, "training", *config_files(root, "train", *overlays, OVERLAY.stem), *training,
         "--pretrained_dir", short_path(before), *_options(ids or {})],
        [*run, "evaluating", *config_files(root, "inference", "evaluate"), *bundle, "--output_dir", str(out),
         "--training_dir", str(out / "training"), "--before_dir", short_path(before), *_options(plan.evaluation)],
        ["common", "report", str(out)],
    ]  # fmt: skip


def _options(ids: Mapping[str, Any]) -> list[str]:
    return [word for name, value in ids.items() for word in (f"--{name}", str(value))]
