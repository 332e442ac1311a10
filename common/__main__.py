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


def datalist(
    folder: str,
    *,
    rule: str,
    output: str | None = None,
    split: tuple[float, float, float] | None = None,
    split_file: str | None = None,
    seed: int = 0,
    name: str | None = None,
    domains: dict[str, str] | tuple[str, ...] | None = None,
    label: str | None = None,
    misaligned: bool = False,
    replace: bool = False,
    dry_run: bool = False,
) -> None:
    """Write the datalist.json of your own images, split by patient; docs/data.md has examples.

    Args:
        folder: of the data.
        rule: a pattern of paths such as "{patient}_{domain}.nii.gz", csv:FILE, dicom:kernel, dicom:contrast or
            dicom:sequence.
        output: the file; by default datalist.json in the folder.
        split: shares of training, validation and test; by default 0.7,0.1,0.2.
        split_file: an earlier datalist or a CSV file with the columns patient and split, whose splits are kept.
        seed: of the split.
        name: of the data; by default the folder's.
        domains: those wanted, such as T1,T2, or found and wanted names, such as "{'soft': 'B30f'}".
        label: a pattern of label maps, such as "{patient}_label.nii.gz".
        misaligned: fill training_paired even where a patient's images lie on different grids.
        replace: write over an existing file.
        dry_run: print the counts and write nothing.
    """
    from .datalists.make import make_datalist

    made = make_datalist(
        str(folder),
        str(rule),
        output=output,
        split=split,
        split_file=split_file,
        seed=seed,
        name=None if name is None else str(name),
        domains=domains,
        label=label,
        misaligned=misaligned,
        replace=replace,
        dry_run=dry_run,
    )
    print(f"{made.report}\n{'Not written' if dry_run else 'Datalist'}: {made.path}")


def report(output_dir: str, *, window: tuple[float, float] | None = None, cases: int | None = None) -> None:
    """Write OUTPUT_DIR/report.html from what `evaluating` left there: tables, pictures, curves, run facts.

    Args:
        output_dir: the folder that was given to `evaluating`.
        window: intensities shown black and white, such as 0,1500; by default chosen from the target, for CT -1450,50.
        cases: how many patients are shown; by default 3, or 1 where there are more than two directions.
    """
    from .reports.report import write_report

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
    from .reports.reading import write_reading_sheet

    path = write_reading_sheet(run_dirs, output_dir, seed=seed, cases=cases, window=window)
    print(f"Reading sheet: {path}\nTo fill in: {path.with_name('grades.csv')}")


def reading_results(output_dir: str) -> None:
    """Join the filled grades with the key: mean grade and distribution by method.

    Args:
        output_dir: the folder that was given to reading_sheet; every grades*.csv in its for_readers is one reader's.
    """
    from .reports.reading import reading_results as results

    print(results(output_dir))


def demo(bundle: str | None = None, *, output_dir: str = "runs/demo") -> None:
    """Run a bundle's demonstration: phantom data, training, translation, evaluation, report; minutes on a CPU.

    Args:
        bundle: a folder of bundles/, or the path of another bundle; default: the first one, brain MR.
        output_dir: everything goes there.
    """
    from .demo import run_demo

    run_demo(bundle, output_dir)


def leaderboard(
    *,
    bundle: str,
    methods: str | tuple[str, ...] | None = None,
    budget: int | None = None,
    seeds: int | tuple[int, ...] = 3,
    overlay: str | None = "declared",
    epochs: int | None = None,
    data: str | None = None,
    second: str | None = None,
    output_dir: str | None = None,
    result: str | None = None,
    options: dict[str, object] | None = None,
) -> None:
    """Train and score every method of a bundle at one budget; a run that is done is not run again.

    Args:
        bundle: a folder of bundles/, or the path of another bundle.
        methods: such as nec,cut; default: all; ablations as ablations/NAME, overlays on each other as physics+ggdr.
        budget: images with which each generator is updated; default: the board's.
        seeds: how many, or which: 0,1,2.
        overlay: behind every method's own: a name such as compact, or a file; None for the papers' sizes; default: what
            the bundle's metadata.json declares, small networks on the phantom.
        epochs: of each training; default: the configs'.
        data: the data's folder; the demonstration makes its phantom there.
        second: folder of a second test set, on which all are scored, too; nothing is trained on it.
        output_dir: the runs; default runs/leaderboard/BUNDLE.
        result: the file; default benchmarks/results/BUNDLE.json.
        options: further settings of every training, such as "{'batch_size': 2}".
    """
    from .leaderboard.run import RunFailedError, run_leaderboard

    names = methods.split(",") if isinstance(methods, str) else methods
    try:
        path = run_leaderboard(
            bundle,
            methods=names,
            budget=budget,
            seeds=seeds,
            overlay=overlay,
            epochs=epochs,
            data=data,
            second=second,
            output_dir=output_dir,
            result=result,
            options=options,
        )
    except RunFailedError as error:
        raise SystemExit(f"The leaderboard stopped: {error} The same command goes on from there.") from None
    print(f"Results: {path}")


def leaderboard_page(page: str | None = None, *, results: str | None = None) -> None:
    """Write docs/leaderboard.md from the files of results.

    Args:
        page: another file.
        results: another folder than benchmarks/results.
    """
    from .leaderboard.page import write_page

    print(f"Page: {write_page(page, results=results)}")


def features(
    *,
    bundle: str | None = None,
    data: str,
    models_dir: str,
    training_dir: str,
    output_dir: str,
    patient: int = 0,
    clusters: int = 12,
    seed: int = 0,
) -> None:
    """Draw the clusters of what generator and discriminator see of a test patient: OUTPUT_DIR/features.png.

    Args:
        bundle: of kernels, whose inference.yaml reads the images: a folder of bundles/, or the path of another
            bundle; default: the first one of kernels.
        data: the data's folder.
        models_dir: the generator's model.pt and network.json.
        training_dir: the output folder of its training, where last.pt has the discriminator.
        output_dir: of an evaluation, say, whose report then shows the picture.
        patient: which test patient, from 0.
        clusters: how many, the thesis' 12.
        seed: of k-means.
    """
    from .bundles import KERNEL_CONVERSION, find_bundle, find_bundles, translation_task
    from .reports.features import write_features

    kernel_bundles = [root for root in find_bundles() if translation_task(root) == KERNEL_CONVERSION]
    root = find_bundle(bundle, among=kernel_bundles)
    places = {"models_dir": models_dir, "training_dir": training_dir, "output_dir": output_dir}
    print(f"Picture: {write_features(root, data, **places, patient=patient, clusters=clusters, seed=seed)}")


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
    from .convert_ggcl import convert_ggcl as convert

    print(f"Weights: {convert(generator, output, discriminator, domains=domains)}")


def release(*bundles: str, output_dir: str = "dist") -> None:
    """Build the self-contained zip of bundles, which runs wherever MONAI is installed: NAME_vVERSION.zip.

    Args:
        bundles: folders, such as bundles/ggcl.
        output_dir: where the zips go.
    """
    from .release.build import build_release

    for bundle in bundles:
        print(f"Release: {build_release(bundle, output_dir)}")


def release_index(dist: str, *, base_url: str = "") -> None:
    """Write DIST/model_info.json, the index by which MONAI downloads releases, with their checksums.

    Args:
        dist: a folder of releases.
        base_url: the address at which they will lie.
    """
    from .release.build import write_index

    print(f"Index: {write_index(dist, base_url=base_url)}")


def install(archive: str, *, bundle_dir: str = ".", checksum: str | None = None, index: str | None = None) -> None:
    """Unpack a release after checking its checksum, paths and weights; `monai.bundle download` checks none of them.

    Args:
        archive: a zip, or its http(s) address.
        bundle_dir: the bundle's folder is made in it.
        checksum: the zip's SHA-256.
        index: a model_info.json to take it from.
    """
    from .release.install import install_release

    print(f"Bundle: {install_release(archive, bundle_dir, checksum=checksum, index=index)}")


VERBS = (
    *(phantom, datalist, report, demo, convert_ggcl, reading_sheet, reading_results, release, release_index, install),
    *(leaderboard, leaderboard_page, features),
)
SOURCE_TREE_ONLY = (demo, release, release_index, install, leaderboard, leaderboard_page, features)


def _available() -> list[Callable[..., None]]:
    """A released bundle vendors a part of this package, without the folders that these verbs need."""
    is_source_tree = (Path(__file__).parent / "release").is_dir()
    return [verb for verb in VERBS if is_source_tree or verb not in SOURCE_TREE_ONLY]


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
