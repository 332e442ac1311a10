"""
Calibrate the uncertainty of the shipped weights on phantoms, and test it there: coverage, the gate, and surprises.

    python benchmarks/uncertainty.py data --output_dir runs/uncertainty
    python benchmarks/uncertainty.py calibrate nec_t1t2 --data runs/uncertainty
    python benchmarks/uncertainty.py real nec_t1t2 --scans ../shared/data
    python benchmarks/uncertainty.py coverage
    python benchmarks/uncertainty.py structures
    python benchmarks/uncertainty.py gate
    python benchmarks/uncertainty.py surprises
    python benchmarks/uncertainty.py roc
    python benchmarks/uncertainty.py page

`calibrate` writes `bundles/NAME/models/uncertainty.json` and `benchmarks/results/uncertainty_NAME.json`, and `page`
puts the four tables into docs/uncertainty.md. No patient takes part twice, and none in a training: the phantoms have a
seed of their own. Surprises are planted in copies of test patients.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import fire
import nibabel as nib
import numpy as np
from scipy import ndimage

from common.calibration import Cases, auc, calibrate, case_of
from common.files import write_json, write_text
from common.phantoms import generate_phantom
from common.phantoms.dataset import Volume, write_nifti
from common.uncertainty import Uncertainty, paired

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "uncertainty.md"
REAL = {  # patterns of open scans by kind of phantom
    "brain": ("brain_mri/*T1.nii.gz", "brain_mri/*t1_brain.nii.gz"),
    "chest": ("chest_ct/*slices.nii.gz", "kernel_pair_ct/*.nii.gz"),
    "abdomen": (
        "abdomen_ct/acrin*.nii.gz",
        "abdomen_ct/c4kc*.nii.gz",
        "abdomen_ct/totalseg_example_ct_*.nii.gz",
        "abdomen_ct/totalseg_example_contrast_Br*.nii.gz",
    ),
    "lung": ("chest_ct/*slices.nii.gz",),
}
SEED = 23  # of the phantoms; those of trainings have 0
PLANTED = 200  # label of a planted lesion
LESIONS = ("cyst", "calcified", "cavity")  # which no patient of the phantoms has, but abdomens have other cysts


class Plan(NamedTuple):
    """What is made for a bundle.

    Attributes:
        kind: Kind of phantom.
        images: Keys of the images that surprises change.
        source: Domain given to the network when surprised.
        calibration: Patients who calibrate.
        test: Patients who test the promise.
        surprised: Patients of each surprise.
        surprises: Names of the surprises.
        options: Arguments of the phantom.
        ids: Ids of the configs that restrict the surprises to one direction.
        middle: Pixels along each side of the middle of the images that are used; None: whole images.
    """

    kind: str
    images: tuple[str, ...]
    source: str
    calibration: int
    test: int
    surprised: int
    surprises: tuple[str, ...]
    options: dict[str, Any]
    ids: dict[str, Any]
    middle: int | None = None


KERNEL = Plan(
    "chest",
    ("B30f", "B50f", "B70f"),
    "B30f",
    84,
    60,
    5,
    ("metal", *LESIONS, "other_kernel", "motion", "mirrored"),
    {"patients": 144, "size": 512, "slices": 1},
    {"directions": [["B30f", "B70f"]], "blends": []},
    256,
)
PLANS = {
    "nec_t1t2": Plan(
        "brain",
        ("T1", "T2"),
        "T1",
        140,
        120,
        10,
        ("metal", *LESIONS, "other_sequence", "motion", "mirrored"),
        {"patients": 260, "size": 128, "slices": 2},
        {},
    ),
    "ggcl": KERNEL,
    "kcgan_kernel_conversion": KERNEL,
    "nect2cect": Plan(
        "abdomen",
        ("NECT", "truth"),
        "NECT",
        84,
        60,
        10,
        ("metal", *LESIONS, "other_phase", "other_kernel", "motion", "mirrored"),
        {"patients": 144, "size": 256, "slices": 3},
        {},
    ),
    "sr_cyclegan": Plan(
        "lung",
        ("clinical", "truth"),
        "clinical",
        100,
        200,
        20,
        ("metal", *LESIONS, "other_kernel", "motion", "mirrored"),
        {"patients": 300, "size": 192, "slices": 8},
        {},
    ),
}


def data(output_dir: str, *, bundles: Sequence[str] = tuple(PLANS)) -> None:
    """Make the phantoms, and the surprises, of bundles.

    Args:
        output_dir: Folder with one folder per kind of phantom.
        bundles: Names of the bundles.
    """
    for bundle in bundles:
        plan = PLANS[bundle]
        folder = Path(output_dir) / plan.kind
        path = generate_phantom(plan.kind, folder, seed=SEED, **plan.options)
        made = json.loads(path.read_text(encoding="utf-8"))
        patients = [*made["training_paired"], *made["validation"], *made["test"]]
        np.random.default_rng(SEED).shuffle(patients)  # the phantoms spread their parameters evenly along the list
        if plan.middle is not None:
            patients = [_cropped(folder, entry, plan.middle) for entry in patients]
        test = patients[plan.calibration : plan.calibration + plan.test]
        lists = {"training": [], "training_paired": [], "validation": patients[: plan.calibration], "test": test}
        for number, name in enumerate(plan.surprises):
            lists[name] = [
                surprised(folder, entry, name, plan, np.random.default_rng((SEED, number, place)))
                for place, entry in enumerate(test[: plan.surprised])
            ]
        lists["lesions"] = [entry for name in LESIONS for entry in lists[name]]
        labels = {**made["label_names"], str(PLANTED): "planted lesion"}
        print(write_json(folder / bundle / "datalist.json", {**made, **_moved(lists), "label_names": labels}))


def _cropped(folder: Path, entry: Mapping[str, str], size: int) -> dict[str, str]:
    """Write the middle of a patient's images, and return its entry."""
    new = dict(entry)
    (folder / "middle").mkdir(exist_ok=True)
    for key in (key for key in entry if key != "patient"):
        new[key] = f"middle/{entry['patient']}_{key}.nii.gz"
        if (folder / new[key]).is_file():
            continue
        image = nib.load(folder / entry[key])
        first, second = ((n - size) // 2 for n in image.shape[:2])
        part = image.slicer[first : first + size, second : second + size]
        values = np.asarray(part.dataobj)
        write_nifti(folder / new[key], Volume(values.astype(np.uint16) if key == "label" else values, part.affine))
    return new


def _moved(lists: Mapping[str, Sequence[Mapping[str, str]]]) -> dict[str, list[dict[str, str]]]:
    """Return lists whose paths begin in a subfolder."""
    return {
        name: [{key: value if key == "patient" else f"../{value}" for key, value in e.items()} for e in entries]
        for name, entries in lists.items()
    }


def surprised(
    folder: Path, entry: Mapping[str, str], name: str, plan: Plan, rng: np.random.Generator
) -> dict[str, str]:
    """Write a copy of a patient with a surprise, and return its entry."""
    keys = [*plan.images, "label"]
    images = {key: nib.load(folder / entry[key]) for key in keys}
    volumes = {key: np.asarray(image.dataobj, dtype=np.float32) for key, image in images.items()}
    changed = SURPRISES[name](volumes, {key: image.affine for key, image in images.items()}, plan, rng)
    new = {**entry, "patient": f"{entry['patient']}_{name}"}
    for key, volume in changed.items():
        new[key] = f"surprises/{new['patient']}_{key}.nii.gz"
        (folder / "surprises").mkdir(exist_ok=True)
        write_nifti(folder / new[key], Volume(volume, images[key].affine))
    return new


Volumes = dict[str, np.ndarray]
Affines = Mapping[str, np.ndarray]


def sphere(volumes: Volumes, affines: Affines, plan: Plan, rng: np.random.Generator, radius_mm: float) -> Volumes:
    """Return the share of each voxel of each volume that a sphere at a random place of the foreground fills."""
    source, affine = volumes[plan.source], affines[plan.source]
    sizes = nib.affines.voxel_sizes(affine)
    radius = min(radius_mm, min(n * s for n, s in zip(source.shape[:2], sizes[:2])) / 6)
    body = source > (np.percentile(source, 99) * 0.2 if plan.kind == "brain" else -300)
    inside = [
        ndimage.binary_erosion(body[..., z], iterations=max(1, int(0.8 * radius / sizes[0])))
        for z in range(source.shape[2])
    ]
    places = np.argwhere(np.stack(inside, axis=-1))
    if not len(places):
        places = np.argwhere(np.ones(source.shape, bool))
    centre = affine @ [*places[rng.integers(len(places))], 1]
    shares = {}
    for key, volume in volumes.items():
        grid = np.stack(np.meshgrid(*(np.arange(n) for n in volume.shape), indexing="ij"), axis=-1)
        mm = grid @ affines[key][:3, :3].T + affines[key][:3, 3]
        depth = radius - np.linalg.norm((mm - centre[:3]) * [1, 1, 0.5], axis=-1)
        pixel = float(nib.affines.voxel_sizes(affines[key])[0])
        shares[key] = np.clip(depth / pixel + 0.5, 0, 1).astype(np.float32)
    return shares


def lesion(radius_mm: tuple[float, float], brain: tuple[float, float], hu: float) -> Callable[..., Volumes]:
    """Return a surprise: a round lesion whose texture is that of the image.

    Args:
        radius_mm: Range of its radius.
        brain: Intensities in T1 and T2, as shares of the 95th percentile of each image's foreground.
        hu: Intensity in CT, before and after contrast agent.
    """

    def plant(volumes: Volumes, affines: Affines, plan: Plan, rng: np.random.Generator) -> Volumes:
        shares = sphere(volumes, affines, plan, rng, rng.uniform(*radius_mm))
        changed = {}
        for key in plan.images:
            volume = volumes[key]
            level = hu
            if plan.kind == "brain":
                level = brain[plan.images.index(key)] * float(np.percentile(volume[volume > 0], 95))
            texture = 0.5 * (volume - ndimage.gaussian_filter(volume, (2, 2, 0)))
            changed[key] = (1 - shares[key]) * volume + shares[key] * (level + texture)
        changed["label"] = np.where(shares["label"] > 0.5, PLANTED, volumes["label"]).astype(np.uint16)
        return changed

    return plant


def metal(volumes: Volumes, affines: Affines, plan: Plan, rng: np.random.Generator) -> Volumes:
    """An implant: a void with a bright rim in MR, 3000 HU with streaks in CT."""
    shares = sphere(volumes, affines, plan, rng, 8.0)
    changed = {}
    for key in plan.images:
        volume, share = volumes[key], shares[key]
        if plan.kind == "brain":
            rim = np.clip(4 * ndimage.gaussian_filter(share, (2, 2, 0)) * (1 - share), 0, 1)
            changed[key] = np.where(volume > 0, volume * (1 + rim) * (1 - share) + 1, volume)
            continue
        middle = [float(np.average(axis, weights=share + 1e-9)) for axis in np.indices(share.shape)[:2]]
        x, y = (axis - m for axis, m in zip(np.indices(share.shape)[:2], middle))
        distance = np.hypot(x, y) * nib.affines.voxel_sizes(affines[key])[0]
        streaks = 400 * np.cos(8 * np.arctan2(y, x)) * np.exp(-distance / 30)
        changed[key] = np.clip((1 - share) * (volume + streaks) + share * 3000, -1024, 3071)
    return changed


def motion(volumes: Volumes, affines: Affines, plan: Plan, rng: np.random.Generator) -> Volumes:
    """The source moved while it was scanned: a ghost in MR, a double contour in CT; the truth did not."""
    source = volumes[plan.source]
    pixel = float(nib.affines.voxel_sizes(affines[plan.source])[0])
    if plan.kind == "brain":
        ghosts = 0.2 * np.roll(source, source.shape[1] // 4, axis=1) + 0.2 * np.roll(
            source, -source.shape[1] // 4, axis=1
        )
        return {plan.source: 0.8 * source + ghosts}
    return {plan.source: 0.5 * source + 0.5 * np.roll(source, max(2, round(4.0 / pixel)), axis=1)}


def mirrored(volumes: Volumes, affines: Affines, plan: Plan, rng: np.random.Generator) -> Volumes:
    """Left and right are exchanged in source, truth and label."""
    return {
        key: (volume[::-1] if key != "label" else volume[::-1].astype(np.uint16)) for key, volume in volumes.items()
    }


def other_kernel(volumes: Volumes, affines: Affines, plan: Plan, rng: np.random.Generator) -> Volumes:
    """A sharper reconstruction kernel than the one that the source is said to have."""
    if "B70f" in volumes:
        return {plan.source: volumes["B70f"]}
    source = volumes[plan.source]
    return {plan.source: np.clip(source + 2 * (source - ndimage.gaussian_filter(source, (1, 1, 0))), -1024, 3071)}


def other_image(volumes: Volumes, affines: Affines, plan: Plan, rng: np.random.Generator) -> Volumes:
    """The truth in place of the source: T2 for T1, contrast-enhanced for non-contrast CT."""
    return {plan.source: volumes[plan.images[1]]}


SURPRISES: dict[str, Callable[..., Volumes]] = {
    "metal": metal,
    "cyst": lesion((8, 14), (0.3, 1.6), 5.0),
    "calcified": lesion((4, 8), (0.5, 0.15), 400.0),
    "cavity": lesion((16, 22), (0.28, 1.7), 15.0),
    "other_kernel": other_kernel,
    "other_sequence": other_image,
    "other_phase": other_image,
    "motion": motion,
    "mirrored": mirrored,
}


def run(bundle: str, *, data: str, models_dir: str | None = None, ensemble: Sequence[str] = ()) -> None:
    """Calibrate a bundle, test it, and write its `uncertainty.json` and the results.

    Args:
        bundle: Name of the bundle.
        data: Folder that `data` wrote.
        models_dir: Folder of the weights; default: the bundle's.
        ensemble: Folders of further trainings, whose disagreement goes through the gate.
    """
    plan, folder = PLANS[bundle], Path(data) / PLANS[bundle].kind / bundle
    models = Path(models_dir or ROOT / "bundles" / bundle / "models")
    content, rows = calibrate(
        bundle,
        folder,
        models_dir=models,
        lesions=("planted lesion",),
        lesion_test="lesions",
        description=f"digital phantoms ({plan.kind})",
        device="cpu",
        ensemble=ensemble,
        **({"blends": []} if plan.kind == "chest" else {}),
    )
    known = Uncertainty(models)
    surprises = {}
    direction = rows[0]["direction"] if not plan.ids else "->".join(plan.ids["directions"][0])
    measured = {row["patient"]: (row["novelty_score"], row["novelty"]) for row in rows if row["direction"] == direction}
    usual = [score for patient, score in measured.items() if patient.count("_") == 1]
    for name in plan.surprises:
        scores = [score for patient, score in measured.items() if patient.endswith(f"_{name}")]
        if not scores:
            scores = _scores(known, Cases(ROOT / "bundles" / bundle, models, folder, name, device="cpu", **plan.ids))
        found = np.concatenate([[score for score, _ in usual], [score for score, _ in scores]])
        surprises[name] = {
            "patients": len(scores),
            "novelty_auc": auc(found, np.arange(found.size) >= len(usual)),
            "flagged": float(np.mean([p <= content["promise"]["novelty"] for _, p in scores])),
            "scores": [round(float(score), 4) for score, _ in scores],
        }
        print(name, surprises[name], flush=True)
    surprises["none"] = {
        "patients": len(usual),
        "novelty_auc": 0.5,
        "flagged": float(np.mean([p <= content["promise"]["novelty"] for _, p in usual])),
        "scores": [round(float(score), 4) for score, _ in usual],
    }
    kept = {key: content[key] for key in ("weights_sha256", "unit", "promise", "data", "gate")}
    print(write_json(RESULTS / f"uncertainty_{bundle}.json", {"bundle": bundle, **kept, "surprises": surprises}))


def real(bundle: str, *, scans: str, models_dir: str | None = None) -> None:
    """Add the novelty of real scans, of which no calibration patient is one, to a bundle's results.

    Args:
        bundle: Name of the bundle.
        scans: Folder of the open scans that docs/real_scans.md names.
        models_dir: Folder of the weights; default: the bundle's.
    """
    known = Uncertainty(Path(models_dir or ROOT / "bundles" / bundle / "models"))
    novelty = next(iter(known.directions.values())).novelty
    found = {}
    for path in sorted(path for pattern in REAL[PLANS[bundle].kind] for path in Path(scans).glob(pattern)):
        image = nib.as_closest_canonical(nib.load(path))
        middle = image.shape[2] // 2
        volume = np.asarray(image.dataobj[..., middle - 2 : middle + 2], dtype=np.float32)
        pair = paired(volume, image.affine, volume, image.affine, hu=known.hu)
        case = case_of(path.name, "", pair, np.zeros_like(volume), None)
        score = novelty.score(novelty.statistics(novelty.distances(case.coarse), case.coarse))
        found[path.name.removesuffix(".nii.gz")] = {"score": score, "p_value": novelty.p_value(score)}
        print(path.name, found[path.name.removesuffix(".nii.gz")], flush=True)
    path = RESULTS / f"uncertainty_{bundle}.json"
    print(write_json(path, {**json.loads(path.read_text(encoding="utf-8")), "real": found}))


def _scores(known: Uncertainty, cases: Cases) -> list[tuple[float, float]]:
    """Return the novelty score and its p-value of each case."""
    found = []
    for case in cases:
        novelty = known.directions[case.direction].novelty
        score = novelty.score(novelty.statistics(novelty.distances(case.coarse), case.coarse))
        found.append((score, novelty.p_value(score)))
    return found


def coverage(*results: str) -> None:
    """Print, as Markdown, what was promised and what was measured, one row per direction of all committed results."""
    head = "bundle", "direction", "patients", "covered", "95 % interval", "promise", "voxels", "voxels, mean factor"
    _head(*head, "half-width", "constant", "strata", "network", "mean error")
    for result in _read(results):
        for direction, found in result["gate"]["directions"].items():
            low, high = found["patient_coverage_interval"]
            widths = [f"{found['half_widths'][kind]:.0f}" for kind in ("constant", "strata", "network")]
            patients = f"{found['patients_covered']}/{found['patients']} ({found['patient_coverage']:.0%})"
            shares = [f"{found[key]:.1%}" for key in ("voxel_coverage", "voxel_coverage_by_mean_factor")]
            counts = "/".join(str(result["data"]["patients"][key]) for key in ("scale", "factor", "test"))
            interval = f"{low:.0%} to {high:.0%}"
            kept = "not refuted" if found["promise_kept"] else "refuted"
            cells = [counts, patients, interval, kept, *shares, f"{found['half_width']:.0f} ({found['kind']})", *widths]
            _row(result["bundle"], direction, *cells, f"{found['error']:.0f}")


def gates(*results: str) -> None:
    """Print, as Markdown, how well each predictor ranks the errors and finds planted lesions."""
    read = _read(results)
    every = [found for result in read for found in result["gate"]["directions"].values()]
    known = ("strata", "network", "novelty", "baseline", "cycle", "ensemble")
    names = [name for name in known if any(name in found["spearman"] for found in every)]
    _head(
        "bundle",
        "direction",
        *(f"{name}: Spearman" for name in names),
        *(f"{name}: lesion AUC" for name in names),
        "true error: lesion AUC",
        "gate",
    )
    for result in read:
        for direction, found in result["gate"]["directions"].items():
            numbers = [
                f"{found[kind][name]:.2f}" if name in found[kind] else ""
                for kind in ("spearman", "lesion_auc")
                for name in names
            ]
            own = found["lesion_auc_of_the_error"]
            _row(
                result["bundle"],
                direction,
                *numbers,
                "" if own is None else f"{own:.2f}",
                "passed" if found["passed"] else "failed",
            )


def structures(*results: str) -> None:
    """Print, as Markdown, coverage, half-width and error in each structure, as means over directions."""
    _head("bundle", "structure", "covered", "half-width", "mean error")
    for result in _read(results):
        directions = list(result["gate"]["directions"].values())
        for name in dict.fromkeys(name for found in directions for name in found["structures"]):
            rows = [found["structures"][name] for found in directions if name in found["structures"]]
            covered, half_width, error = (
                float(np.mean([row[key] for row in rows])) for key in ("covered", "half_width", "error")
            )
            cells = f"{covered:.0%}", f"{half_width:.0f}", f"{error:.0f}"
            _row(result["bundle"], name.replace("_", " "), *cells)


def surprises(*results: str) -> None:
    """Print, as Markdown, the AUC of the novelty score for each surprise, and the share of patients that is flagged."""
    read = _read(results)
    names = [name for name in dict.fromkeys(name for result in read for name in result["surprises"]) if name != "none"]
    _head("surprise", *(result["bundle"] for result in read))
    for name in [*names, "none"]:
        cells = []
        for result in read:
            found = result["surprises"].get(name)
            share = "" if found is None else f"{found['flagged']:.0%} of {found['patients']}"
            cells.append(share if found is None or name == "none" else f"{found['novelty_auc']:.2f} ({share})")
        _row(name.replace("_", " "), *cells)
    cells = []
    for result in read:
        p_values = [found["p_value"] for found in result.get("real", {}).values()]
        share = sum(p <= result["promise"]["novelty"] for p in p_values)
        cells.append(f"{share} of {len(p_values)}" if p_values else "")
    _row("real scans", *cells)


def page() -> None:
    """Put the tables of the committed results into docs/uncertainty.md, each below the command that prints it."""
    text = PAGE.read_text(encoding="utf-8")
    for verb, show in TABLES.items():
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            show()
        before, command, after = text.partition(f"python benchmarks/uncertainty.py {verb}\n```\n\n")
        if not command:
            raise ValueError(
                f"{PAGE} must have the command `python benchmarks/uncertainty.py {verb}` before its table."
            )
        lines = after.splitlines(keepends=True)
        while lines and lines[0].startswith("|"):
            lines.pop(0)
        text = before + command + printed.getvalue() + "".join(lines)
    print(write_text(PAGE, text))


def roc(*results: str, picture: str = str(ROOT / "docs" / "images" / "uncertainty_roc.png")) -> None:
    """Draw the ROC of the novelty score for each surprise, one panel per bundle, from the scores in the results."""
    from matplotlib import pyplot

    read = [result for result in _read(results) if "scores" in result["surprises"]["none"]]
    figure, axes = pyplot.subplots(1, len(read), figsize=(3.4 * len(read), 4.6), sharey=True, squeeze=False)
    names = list(dict.fromkeys(name for result in read for name in result["surprises"] if name != "none"))
    for axis, result in zip(axes[0], read, strict=True):
        usual = np.array(result["surprises"]["none"]["scores"])
        for place, name in enumerate(names):
            if name not in result["surprises"]:
                continue
            scores = np.array(result["surprises"][name]["scores"])
            limits = np.unique(np.concatenate([usual, scores]))[::-1]
            false = [0.0, *((usual >= limit).mean() for limit in limits)]
            true = [0.0, *((scores >= limit).mean() for limit in limits)]
            axis.plot(false, true, label=name.replace("_", " "), color=f"C{place}", lw=1.5)
        axis.plot([0, 1], [0, 1], color="grey", lw=0.8, ls=":")
        axis.set(title=result["bundle"], xlabel="false alarms", xlim=(0, 1), ylim=(0, 1.01), aspect="equal")
    axes[0][0].set_ylabel("surprises noticed")
    lines = {line.get_label(): line for axis in axes[0] for line in axis.lines if not line.get_label().startswith("_")}
    figure.legend(lines.values(), lines.keys(), loc="lower center", ncol=len(names), fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(picture, dpi=110)
    print(picture)


def _read(results: Sequence[str]) -> list[dict[str, Any]]:
    paths = [Path(path) for path in results] or sorted(RESULTS.glob("uncertainty_*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def _head(*cells: str) -> None:
    _row(*cells)
    print("|" + "---|" * len(cells))


def _row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |")


TABLES = {"coverage": coverage, "gate": gates, "structures": structures, "surprises": surprises}


if __name__ == "__main__":
    fire.Fire(
        {
            "data": data,
            "calibrate": run,
            "real": real,
            "roc": roc,
            "page": page,
            **TABLES,
        }
    )
