"""`python -m common <verb>`: the few commands that `monai.bundle` does not have."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import fire

from .identity import released_verbs


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
        kind: Brain (T1 and T2), brain_pd (the same patients' T2 and PD), brain_varied (T1 and T2 of many scanners, with
            and without skull), chest (CT, kernels B30f, B50f, B70f), chest_iterative (also iterative reconstructions
            I30f, I50f, I70f), chest_scanner (kernels in the style of three vendors, arms, filtered streaks),
            abdomen (CT before and after contrast), abdomen_varied (the same of more kinds of patients),
            abdomen_clinical (also the arterial phase; arms, metal), lung (clinical and micro CT), lung_walls (the same
            with wide bronchi, vessels and septa, and with varied scanners).
        output_dir: Folder of the data; a second run with the same parameters changes nothing.
        patients: Number of patients; training, validation and test are split by patient.
        slices: Axial slices per patient; for lungs those of the micro CT, a multiple of `factor`.
        size: Pixels along each side of a slice; the field of view stays the same, except that of the lungs' micro CT,
            which grows with it.
        seed: Seed of the data.
        slice_mm: Distance between slices in mm; not for lungs.
        factor: For lungs only: ratio of the voxel sizes of clinical and micro CT, 2, 4 or 8; default 8.
    """
    from .phantoms import generate_phantom

    path = generate_phantom(
        kind, output_dir, patients=patients, slices=slices, size=size, seed=seed, slice_mm=slice_mm, factor=factor
    )
    print(f"Datalist: {path}")


def contrast_twins(scans: str, *, output_dir: str, twins: int = 1, seed: int = 0) -> None:
    """Make the other state, before or after contrast, of labelled CT scans: training pairs without any misalignment.

    Args:
        scans: Folder whose datalist.json lists one labelled scan an entry in training: image, label (TotalSegmentator's
            values), domain (NECT or CECT) and patient; docs/data.md has an example.
        output_dir: Folder of the pairs and their datalist.json.
        twins: Number of pairs of each scan; from the second on, its organs are a little brighter or darker.
        seed: Seed of these differences.
    """
    from .transforms import write_contrast_twins

    path, count = write_contrast_twins(str(scans), str(output_dir), twins=twins, seed=seed)
    print(f"{count} pairs: {path}")


def align(
    *,
    fixed: str,
    moving: str,
    output_dir: str,
    data: str | None = None,
    method: str = "bspline",
    grid_mm: float = 32.0,
    padding: float | None = None,
    seed: int = 0,
    lists: str | tuple[str, ...] = "training_paired",
    doubtful: bool = False,
) -> None:
    """Align misaligned scans of one patient: affine, then B-spline; needs SimpleITK (the extra align).

    Args:
        fixed: Scan that stays: a file, a DICOM series, a zip, or a folder; with data, a key such as NECT.
        moving: Scan that is put on its grid, or as many of them under the same names; with data, a key such as CECT.
        output_dir: Folder of the aligned volumes, their masks, and a JSON file for each with measures and a verdict.
        data: Data folder whose datalist.json pairs the scans; a new datalist.json names the aligned ones.
        method: affine or bspline.
        grid_mm: Distance of the control points of the B-spline, in mm.
        padding: Value of voxels from outside of the moving scan; default: -1024 HU, or its smallest value.
        seed: Seed of the voxels that are compared.
        lists: With data: lists whose pairs are aligned, separated by commas.
        doubtful: With data: keep pairs whose alignment is doubtful.
    """
    from .alignment import Options, align_datalist, align_files

    options = Options(method=method, grid_mm=grid_mm, padding=padding, seed=seed)
    if data is not None:
        names = lists.split(",") if isinstance(lists, str) else list(lists)
        align_datalist(
            str(data),
            str(output_dir),
            fixed=str(fixed),
            moving=str(moving),
            lists=names,
            doubtful=doubtful,
            **options._asdict(),
        )
        print(f"Data: {output_dir}")
        return
    for made in align_files(str(fixed), str(moving), str(output_dir), options=options):
        print(f"Aligned ({made.verdict}): {made.volume}")


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
        folder: Folder of the data.
        rule: A pattern of paths such as "{patient}_{domain}.nii.gz", csv:FILE, dicom:kernel, dicom:contrast or
            dicom:sequence.
        output: File to write; default: datalist.json in the folder.
        split: Fractions of training, validation and test; default: 0.7,0.1,0.2.
        split_file: An earlier datalist or a CSV file with the columns patient and split, whose splits are kept.
        seed: Seed of the split.
        name: Name of the data; default: the folder's name.
        domains: Wanted domains, such as T1,T2, or found and wanted names, such as "{'soft': 'B30f'}".
        label: Pattern of label maps, such as "{patient}_label.nii.gz".
        misaligned: Fill training_paired even if a patient's images have different grids.
        replace: Overwrite an existing file.
        dry_run: Print the counts and write nothing.
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


def report(
    output_dir: str, *, window: tuple[float, float] | None = None, cases: int | None = None, viewer: bool = True
) -> None:
    """Write OUTPUT_DIR/report.html from the results of `evaluating`: tables, pictures, viewer, curves, facts.

    Args:
        output_dir: Output folder of `evaluating`.
        window: Intensities shown black and white, such as 0,1500; default: chosen from the target, for CT -1450,50.
        cases: Number of patients shown; default: 3, or 1 if there are more than two directions.
        viewer: Whether the page holds the shown patients' volumes, to look through them.
    """
    from .reports.report import write_report

    print(f"Report: {write_report(output_dir, window=window, cases=cases, viewer=viewer)}")


def score(
    predictions: str,
    *,
    data: str,
    bundle: str,
    output_dir: str = "runs/score",
    pattern: str = "{name}_synthetic_{target}",
    split: str = "test",
    name: str | None = None,
) -> None:
    """Score outputs that any program made as `evaluating` scores a bundle's network: baselines, tables, report.

    Args:
        predictions: Folder of the outputs, NIfTI files on their sources' grids.
        data: Data folder whose datalist.json names sources and truths.
        bundle: The bundle whose evaluation is used: a folder of bundles/, or the path of another bundle.
        output_dir: Folder of report.html, summary.json and metrics.csv.
        pattern: Name of an output, from {patient}, {source}, {target} and {name}, the source's file name; such as
            "{patient}_{target}.nii.gz"; default: as `inference` names its outputs.
        split: List of the datalist.
        name: What the outputs are called in the report; default: the folder's name.
    """
    from .scoring import score_outputs

    path = score_outputs(
        predictions,
        data,
        bundle=bundle,
        output_dir=output_dir,
        pattern=pattern,
        split=split,
        name=None if name is None else str(name),
    )
    print(f"Report: {path}")


def reading_sheet(
    *run_dirs: str,
    output_dir: str,
    seed: int = 0,
    cases: int | None = None,
    window: tuple[float, float] = (-100.0, 200.0),
) -> None:
    """Write a blinded reading sheet of several methods: random order, no names, and a separate key.

    Args:
        run_dirs: Output folders of `evaluating`, one per method, on the same patients.
        output_dir: A new folder; hand out its for_readers, keep its key.csv.
        seed: Seed of the order.
        cases: Number of patients; default: all that every run has.
        window: HU shown black and white.
    """
    from .reports.reading import write_reading_sheet

    path = write_reading_sheet(run_dirs, output_dir, seed=seed, cases=cases, window=window)
    print(f"Reading sheet: {path}\nTo fill in: {path.with_name('grades.csv')}")


def reading_results(output_dir: str) -> None:
    """Join the filled grades with the key: mean grade and distribution by method.

    Args:
        output_dir: Output folder of reading_sheet; its for_readers has one grades*.csv per reader.
    """
    from .reports.reading import reading_results as results

    print(results(output_dir))


def demo(bundle: str | None = None, *, output_dir: str = "runs/demo") -> None:
    """Run a bundle's demonstration: phantom data, training, translation, evaluation, report; minutes on a CPU.

    Args:
        bundle: A folder of bundles/, or the path of another bundle; default: the first one, brain MR.
        output_dir: Folder of all outputs.
    """
    from .demo import run_demo

    run_demo(bundle, output_dir)


def finetune(
    bundle: str,
    *,
    dataset_dir: str,
    output_dir: str,
    pretrained_dir: str | None = None,
    overlays: str = "",
    **ids: object,
) -> None:
    """Fine-tune a bundle's weights on your own scans, score them before and after on held-out patients, and report.

    Args:
        bundle: A folder of bundles/, or the path of another bundle.
        dataset_dir: Data folder whose datalist.json holds out test patients.
        output_dir: Folder of the new weights (models), finetuning.json, metrics.csv and report.html.
        pretrained_dir: Folder of the weights to begin with; default: the bundle's models.
        overlays: Further overlays of train.yaml, such as baselines/supervised for scans in pairs.
        ids: Ids of the training's config and their values, such as --max_epochs 20.
    """
    from .finetune import run_finetuning

    run_finetuning(bundle, dataset_dir, output_dir, pretrained_dir=pretrained_dir, overlays=overlays, **ids)


def calibrate(
    bundle: str,
    *,
    dataset_dir: str,
    models_dir: str | None = None,
    output: str | None = None,
    split: str = "validation",
    test: str = "test",
    coverage: float = 0.9,
    confidence: float = 0.9,
    lesions: str | tuple[str, ...] = (),
    lesion_test: str | None = None,
    description: str | None = None,
    ensemble: str | tuple[str, ...] = (),
    **ids: object,
) -> None:
    """Measure on patients with truth how far a bundle's outputs may be from it, for `--uncertainty True` at inference.

    Args:
        bundle: A folder of bundles/, or the path of another bundle.
        dataset_dir: Data folder whose datalist.json lists patients with truth, on one grid, that no training has seen.
        models_dir: Folder of the weights; default: the bundle's models.
        output: File to write; default: uncertainty.json beside the weights.
        split: List of the patients who calibrate.
        test: List of the patients on whom the promise is tested.
        coverage: Share of a patient's voxels that the interval must cover.
        confidence: Share of the patients of whom that is promised.
        lesions: Names of labels, separated by commas, where the interval should be wider than elsewhere.
        lesion_test: Further list of patients who have these lesions.
        description: Words for the patients, such as "30 patients of our hospital".
        ensemble: Folders of further weights, separated by commas, whose disagreement goes through the gate as well.
        ids: Ids of inference.yaml and evaluate.yaml and their values, such as --device cpu.
    """
    from .calibration import calibrate as measure

    names, folders = (
        [name for name in given.split(",") if name] if isinstance(given, str) else list(given)
        for given in (lesions, ensemble)
    )
    content, _ = measure(
        bundle,
        dataset_dir,
        models_dir=models_dir,
        output=output,
        split=split,
        test=test,
        coverage=coverage,
        confidence=confidence,
        lesions=names,
        lesion_test=lesion_test,
        description=description,
        ensemble=folders,
        **ids,
    )
    for direction, found in content["gate"]["directions"].items():
        low, high = found["patient_coverage_interval"]
        print(
            f"{direction}: half-width {found['half_width']:.4g} {content['unit']} on average."
            f" {found['patients_covered']} of {found['patients']} test patients ({low:.0%} to {high:.0%}) have at least"
            f" {coverage:.0%} of their voxels within it, promised were {confidence:.0%};"
            f" {found['voxel_coverage']:.1%} of all voxels are."
        )
    print(
        "Gate: " + ("passed." if content["gate"]["passed"] else "NOT passed: the map does not tell where errors are.")
    )


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
    """Train and score every method of a bundle at one budget; a completed run is not repeated.

    Args:
        bundle: A folder of bundles/, or the path of another bundle.
        methods: Names such as nec,cut; default: all; ablations as ablations/NAME, combined overlays as physics+ggdr.
        budget: Number of images with which each generator is updated; default: the board's.
        seeds: Number of seeds, or the seeds: 0,1,2.
        overlay: Overlay after every method's own: a name such as compact, or a file; None: the papers' sizes; default:
            what the bundle's metadata.json declares, small networks on the phantom.
        epochs: Epochs of each training; default: those of the configs.
        data: Folder of the data; the demonstration makes its phantom there.
        second: Folder of a second test set, which is scored as well and never trained on.
        output_dir: Folder of the runs; default: runs/leaderboard/BUNDLE.
        result: File of the results; default: benchmarks/results/BUNDLE.json.
        options: Further settings of every training, such as "{'batch_size': 2}".
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
        page: File to write; default: docs/leaderboard.md.
        results: Folder of the results; default: benchmarks/results.
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
    """Draw clusters of the features of generator and discriminator for a test patient: OUTPUT_DIR/features.png.

    Args:
        bundle: A kernel bundle, whose inference.yaml reads the images: a folder of bundles/, or the path of another
            bundle; default: the first kernel bundle.
        data: Folder of the data.
        models_dir: Folder of the generator's model.pt and network.json.
        training_dir: Output folder of the training, whose last.pt has the discriminator.
        output_dir: Folder of the picture, such as that of an evaluation, whose report then shows it.
        patient: Index of the test patient, from 0.
        clusters: Number of clusters; the thesis has 12.
        seed: Seed of k-means.
    """
    from .bundles import KERNEL_CONVERSION, find_bundle, find_bundles, translation_task
    from .reports.features import write_features

    kernel_bundles = [root for root in find_bundles() if translation_task(root) == KERNEL_CONVERSION]
    root = find_bundle(bundle, among=kernel_bundles)
    places = {"models_dir": models_dir, "training_dir": training_dir, "output_dir": output_dir}
    print(f"Picture: {write_features(root, data, **places, patient=patient, clusters=clusters, seed=seed)}")


def translate(
    scan: str,
    *,
    bundle: str,
    output_dir: str,
    target: str | dict[str, float] | None = None,
    bundle_dir: str | None = None,
    **overrides: Any,
) -> None:
    """Translate a scan with a bundle: a NIfTI file, a folder of them, a DICOM series, or a zip.

    Args:
        scan: A file, a folder, a zip, or a pattern such as "scans/*T1*".
        bundle: A folder of bundles/ by its name, the path of another bundle, or the zip of a release.
        output_dir: Folder of the translations; each has a JSON file beside it with the findings of all checks.
        target: Target domain, such as B30f, or the weights of a blend; default: the bundle's.
        bundle_dir: Folder in which a bundle's name is looked up as well; default: this folder, and MONAI's downloads.
        overrides: Settings of the bundle's inference.yaml, such as --guards warn or --output_format dicom.
    """
    with uncollected_imports():
        from .images.names import is_map
        from .translation import translate_to_files

    written = translate_to_files(
        str(scan), str(output_dir), bundle=str(bundle), target=target, bundle_dir=bundle_dir, **overrides
    )
    for path, verdict in written:
        print(f"Half-widths: {path}" if is_map(path) else f"Translation ({verdict}): {path}")
    if not written:
        print("Nothing was left to translate.")


def convert_ggcl(
    generator: str,
    output: str,
    *,
    discriminator: str | None = None,
    domains: tuple[str, ...] = ("B30f", "B50f", "B70f"),
) -> None:
    """Import a checkpoint that the released GGCL (or StarGAN) code trained: model.pt and, beside it, network.json.

    Args:
        generator: File ITERATION-G.ckpt of the released code.
        output: File of the weights, such as bundles/kcgan_kernel_conversion/models/model.pt.
        discriminator: File ITERATION-D.ckpt, written to the folder discriminator beside the output.
        domains: Kernels in the order of the checkpoint's label, such as B30f,B50f,B70f.
    """
    from .convert_ggcl import convert_ggcl as convert

    print(f"Weights: {convert(generator, output, discriminator, domains=domains)}")


def release(*bundles: str, output_dir: str = "dist", thin: bool = False) -> None:
    """Build the self-contained zip of bundles, which runs wherever MONAI is installed: NAME_vVERSION.zip.

    Args:
        bundles: Folders of bundles, such as bundles/ggcl.
        output_dir: Folder of the zips.
        thin: Leave all Python files out; NAME_thin_vVERSION.zip needs the project's wheel.
    """
    from .release.build import build_release, describe_release

    for bundle in bundles:
        print(f"Release: {describe_release(build_release(bundle, output_dir, thin=thin))}")


def release_index(dist: str, *, base_url: str = "") -> None:
    """Write DIST/model_info.json, the index by which MONAI downloads releases, with their checksums.

    Args:
        dist: Folder of releases.
        base_url: Address of the releases.
    """
    from .release.build import write_index

    print(f"Index: {write_index(dist, base_url=base_url)}")


def install(archive: str, *, bundle_dir: str = ".", checksum: str | None = None, index: str | None = None) -> None:
    """Unpack a release after checking its checksum, paths and weights; `monai.bundle download` checks none of them.

    Args:
        archive: A zip, or its http(s) address.
        bundle_dir: Folder in which the bundle's folder is created.
        checksum: SHA-256 of the zip.
        index: A model_info.json that lists the checksum.
    """
    from .release.install import install_release

    print(f"Bundle: {install_release(archive, bundle_dir, checksum=checksum, index=index)}")


def export(
    bundle: str,
    output: str,
    *,
    target: str | dict[str, float] | None = None,
    source: str | None = None,
    pixel_mm: float | None = None,
) -> None:
    """Export a bundle's network by torch.export: OUTPUT.pt2, which needs torch alone; compared with eager mode.

    Args:
        bundle: Folder of the bundle.
        output: File to write.
        target: For a kernel conversion: kernel or blend that the export makes.
        source: For a kernel conversion: kernel of its images.
        pixel_mm: For a kernel conversion: size of their pixels.
    """
    from .release.export import export_network

    path, difference = export_network(bundle, output, target=target, source=source, pixel_mm=pixel_mm)
    print(f"Export: {path}, largest difference to eager mode: {difference:.3g}")


VERBS = (
    *(translate, phantom, contrast_twins, align, datalist, score, report, demo, finetune, calibrate, convert_ggcl),
    *(reading_sheet, reading_results),
    *(release, release_index, install, export, leaderboard, leaderboard_page, features),
)


@contextmanager
def uncollected_imports() -> Iterator[None]:
    """Import without a search for garbage, which takes a fifth of the time that PyTorch and MONAI take, and finds none.

    What was imported stays, so that later searches leave it out.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _available() -> list[Callable[..., None]]:
    """Return the verbs whose code is there: a released bundle has those that its own pages name."""
    released = released_verbs()
    return [verb for verb in VERBS if released is None or verb.__name__ in released]


def main() -> None:
    """Run the command line; an expected error ends in one line."""
    from .errors import EXPECTED

    try:
        fire.Fire({verb.__name__: verb for verb in _available()}, name="python -m common")
    except EXPECTED as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
