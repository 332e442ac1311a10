"""`python -m common <verb>`: the few commands that `monai.bundle` does not have."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import fire


def phantom(
    kind: str,
    output_dir: str,
    *,
    patients: int | None = None,
    slices: int | None = None,
    size: int | None = None,
    seed: int = 0,
    slice_mm: float | None = None,
    factor: int | None = None,
) -> None:
    """Generate a digital phantom with exact ground truth: NIfTI volumes, label maps and a datalist.json.

    Args:
        kind: brain (T1 and T2), brain_pd (the same patients' T2 and PD), chest (CT, kernels B30f, B50f, B70f), abdomen
            (CT before and after contrast), lung (clinical and micro CT).
        output_dir: a folder; a second run with the same parameters finds its data done.
        patients: how many; training, validation and test are split by patient.
        slices: axial slices a patient; of the lung's micro CT, a multiple of its factor.
        size: pixels along each side of a slice, of which the field of view stays the same; of the lung's micro CT,
            which shows more tissue then.
        seed: the same seed gives the same data.
        slice_mm: distance between slices; the lung's cannot be chosen.
        factor: of the lung alone: voxel size of the clinical CT over that of the micro CT, 2, 4 or 8; default 8.
    """
    from .phantoms import generate_phantom

    path = generate_phantom(
        kind,
        output_dir,
        patients=patients,
        slices=slices,
        size=size,
        seed=seed,
        slice_mm=slice_mm,
        factor=factor,
    )
    print(f"Datalist: {path}")


def report(output_dir: str, *, window: tuple[float, float] | None = None, cases: int | None = None) -> None:
    """Write OUTPUT_DIR/report.html from what `evaluating` left there: tables, pictures, curves, run facts.

    Args:
        output_dir: the folder that was given to `evaluating`.
        window: intensities shown black and white, such as 0,1500; by default chosen from the target, for CT -1450,50.
        cases: how many patients are shown; by default 3, or 1 where there are more than two directions.
    """
    from .reports import write_report

    print(f"Report: {write_report(output_dir, window=window, cases=cases)}")


def reading_sheet(
    *run_dirs: str,
    output_dir: str,
    seed: int = 0,
    cases: int | None = None,
    window: tuple[float, float] = (-100.0, 200.0),
) -> None:
    """Write a blinded reading sheet of several methods: random order, no names, and a key that stays behind.

    Args:
        run_dirs: the output folders of `evaluating`, one a method, on the same patients.
        output_dir: a new folder; hand out its for_readers, keep its key.csv.
        seed: the same seed gives the same order.
        cases: how many patients; by default all that every run has.
        window: HU shown black and white.
    """
    from .reports import write_reading_sheet

    path = write_reading_sheet(run_dirs, output_dir, seed=seed, cases=cases, window=window)
    print(f"Reading sheet: {path}\nTo fill in: {path.with_name('grades.csv')}")


def reading_results(output_dir: str) -> None:
    """Join the filled grades with the key: mean grade and distribution by method.

    Args:
        output_dir: the folder that was given to reading_sheet; every grades*.csv in its for_readers is one reader's.
    """
    from .reports import reading_results as results

    print(results(output_dir))


def demo(bundle: str = "nec_t1t2", *, output_dir: str = "runs/demo") -> None:
    """Run a bundle's demonstration: phantom data, training, translation, evaluation, report; minutes on a CPU.

    Args:
        bundle: a folder of bundles/.
        output_dir: everything goes there.
    """
    from .demo import run_demo

    run_demo(bundle, output_dir)


def convert_ggcl(
    generator: str,
    output: str,
    *,
    discriminator: str | None = None,
    domains: tuple[str, ...] = ("B30f", "B50f", "B70f"),
) -> None:
    """Import a checkpoint that the released GGCL (or StarGAN) code trained: model.pt and, beside it, network.json.

    Args:
        generator: the released code's ITERATION-G.ckpt.
        output: the weights' file, such as bundles/kcgan_kernel_conversion/models/model.pt.
        discriminator: its ITERATION-D.ckpt, written to the folder discriminator beside the output.
        domains: the kernels in the order of the checkpoint's label, such as B30f,B50f,B70f.
    """
    from .convert import convert_ggcl as convert

    print(f"Weights: {convert(generator, output, discriminator, domains=domains)}")


def release(*bundles: str, output_dir: str = "dist") -> None:
    """Build the self-contained zip of bundles, which runs wherever MONAI is installed: NAME_vVERSION.zip.

    Args:
        bundles: folders, such as bundles/ggcl.
        output_dir: where the zips go.
    """
    from .release import build_release

    for bundle in bundles:
        print(f"Release: {build_release(bundle, output_dir)}")


def release_index(dist: str, *, base_url: str = "") -> None:
    """Write DIST/model_info.json, the index by which MONAI downloads releases, with their checksums.

    Args:
        dist: a folder of releases.
        base_url: the address at which they will lie.
    """
    from .release import write_index

    print(f"Index: {write_index(dist, base_url=base_url)}")


def install(archive: str, *, bundle_dir: str = ".", checksum: str | None = None, index: str | None = None) -> None:
    """Unpack a release after checking its checksum, paths and weights; `monai.bundle download` checks none of them.

    Args:
        archive: a zip, or its http(s) address.
        bundle_dir: the bundle's folder is made in it.
        checksum: the zip's SHA-256.
        index: a model_info.json to take it from.
    """
    from .release import install_release

    print(f"Bundle: {install_release(archive, bundle_dir, checksum=checksum, index=index)}")


VERBS = (phantom, report, demo, convert_ggcl, reading_sheet, reading_results, release, release_index, install)
SOURCE_TREE_ONLY = {demo: "demo", release: "release", release_index: "release", install: "release"}


def _available() -> list[Callable[..., None]]:
    """A released bundle vendors a part of this package."""
    here = Path(__file__).parent
    return [
        verb
        for verb in VERBS
        if verb not in SOURCE_TREE_ONLY
        or (here / SOURCE_TREE_ONLY[verb]).exists()
        or (here / f"{SOURCE_TREE_ONLY[verb]}.py").exists()
    ]


def main() -> None:
    """The command line; an error that we expect ends in one line."""
    from .errors import EXPECTED

    try:
        fire.Fire({verb.__name__: verb for verb in _available()}, name="python -m common")
    except EXPECTED as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
