"""Making a datalist: what rules find, whose images go where, what is refused, and that a bundle trains from it."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
import sys
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.__main__ import main
from common.data import load_datalist, load_domain, read_datalist
from common.datalists.make import make_datalist
from common.datalists.rules import compile_pattern
from common.datalists.splits import draw_splits
from common.phantoms import generate_phantom
from tests.helpers.bundles import TINY, bundle, done

RULE = "{patient}_{domain}.nii.gz"
SPLITS = ("training", "validation", "test")


def save(path: Path, *, seed: object = None, shape: tuple[int, ...] = (4, 3, 2), shift: float = 0) -> Path:
    """A small volume whose voxels no other name has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(zlib.crc32(str(path if seed is None else seed).encode())).integers(0, 999, shape)
    affine = np.eye(4)
    affine[0, 3] = shift
    nib.save(nib.Nifti1Image(values.astype(np.int16), affine), path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six patients with T1 and T2 on one grid."""
    for number in range(6):
        for domain in ("T1", "T2"):
            save(tmp_path / "data" / f"p{number}_{domain}.nii.gz")
    return tmp_path / "data"


def patients_of(content: dict, key: str) -> set[str]:
    return {entry["patient"] for entry in content[key]}


def row(report: str, key: str) -> list[str]:
    return next(line for line in report.splitlines() if line.startswith(f"{key} ")).split()[1:]


def test_a_bundle_reads_the_datalist_and_the_counts_are_printed(folder):
    made = make_datalist(folder, RULE)
    assert made.path == (folder / "datalist.json").resolve()
    assert len(load_domain(folder, "training", "T1")) == 4
    for key in ("training_paired", "validation", "test"):
        for entry in load_datalist(folder, key):
            assert Path(entry["T1"]).name == f"{entry['patient']}_T1.nii.gz"
            assert Path(entry["T2"]).name == f"{entry['patient']}_T2.nii.gz"
    # 0.7, 0.1 and 0.2 of six patients are 4.2, 0.6 and 1.2
    assert row(made.report, "training") == ["4", "4", "4", "0", "0"]
    assert row(made.report, "validation") == ["1", "1", "1", "1", "0"]
    assert row(made.report, "test") == ["1", "1", "1", "1", "0"]
    assert json.loads(made.path.read_text()) == made.content


def test_paths_are_relative_to_where_the_datalist_lies(folder, tmp_path):
    make_datalist(folder, RULE, output=tmp_path / "lists" / "mine.json")
    (entry,) = load_datalist(tmp_path / "lists" / "mine.json", "test")
    assert Path(entry["T1"]).parent == folder.resolve()
    assert json.loads((tmp_path / "lists" / "mine.json").read_text())["test"][0]["T1"].startswith("../data/")


def test_an_existing_datalist_is_kept_unless_it_is_to_be_replaced(folder):
    path = make_datalist(folder, RULE).path
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"datalist\.json' exists.*--output.*--replace.*--split_file"):
        make_datalist(folder, RULE, seed=4)
    assert make_datalist(folder, RULE, seed=4, dry_run=True).report
    assert path.read_bytes() == before
    make_datalist(folder, RULE, seed=4, replace=True)
    assert path.read_bytes() != before
    assert [item.name for item in folder.iterdir() if item.name.startswith(".")] == []


def test_a_dry_run_writes_nothing(folder):
    assert make_datalist(folder, RULE, dry_run=True).content["test"]
    assert not (folder / "datalist.json").exists()


# ---- rules


@pytest.mark.parametrize(
    ("pattern", "name", "parts"),
    [
        ("{patient}_{domain}.nii.gz", "sub_01_T1.nii.gz", {"patient": "sub_01", "domain": "T1"}),
        ("{patient}/{domain}/*.nii.gz", "p1/T1/brain.nii.gz", {"patient": "p1", "domain": "T1"}),
        ("{patient}/{patient}_{domain}.nii", "p1/p2_T1.nii", None),
        ("**/{patient}-{domain}.nii", "a/b/p1-T1.nii", {"patient": "p1", "domain": "T1"}),
        ("**/{patient}-{domain}.nii", "p1-T1.nii", {"patient": "p1", "domain": "T1"}),
        ("{patient}_{domain}.nii.gz", "a/p1_T1.nii.gz", None),
        ("{patient}.{domain}.nii", "p1xT1.nii", None),
        ("{patient}_v?_{domain}.nii", "p1_v2_T1.nii", {"patient": "p1", "domain": "T1"}),
    ],
)
def test_patterns_name_the_parts_of_a_path(pattern, name, parts):
    match = compile_pattern(pattern).fullmatch(name)
    assert (match and match.groupdict()) == parts


@pytest.mark.parametrize(
    ("pattern", "words"),
    [("{patient}.nii", ["{domain} is missing", "{patient}.nii"]), ("{patient}_{}_{domain}", ["must hold a name"])],
)
def test_a_wrong_pattern_is_named(pattern, words):
    with pytest.raises(ValueError, match="Pattern") as error:
        compile_pattern(pattern)
    assert all(word in str(error.value) for word in words)


def test_domains_are_renamed_and_others_left_out_by_name(folder):
    save(folder / "p0_FLAIR.nii.gz")
    made = make_datalist(folder, RULE, domains={"T1": "PD", "T2": "T2"})
    assert made.content["domains"] == ["PD", "T2"]
    assert "domain 'FLAIR' is not among --domains T1, T2: p0_FLAIR.nii.gz" in made.report
    with pytest.raises(ValueError, match="must not be called 'label'"):
        make_datalist(folder, RULE, domains={"T1": "label"}, replace=True)


def test_label_maps_go_with_the_patients_volumes(folder):
    for number in range(5):
        save(folder / f"p{number}_label.nii.gz", shift=9 if number == 4 else 0)
    made = make_datalist(folder, RULE, label="{patient}_label.nii.gz", split=(0, 0, 1))
    labels = {entry["patient"]: entry.get("label") for entry in made.content["test"]}
    assert labels == {f"p{n}": f"p{n}_label.nii.gz" if n < 4 else None for n in range(6)}
    assert "label map, not on the grid of p4_T1.nii.gz: p4_label.nii.gz" in made.report
    with pytest.raises(ValueError, match=r"matches no file"):
        make_datalist(folder, RULE, label="{patient}_mask.nii.gz", domains="T1,T2", replace=True)
    with pytest.raises(ValueError, match=r"must not be called 'label'.*--label"):
        make_datalist(folder, RULE, replace=True)
    with pytest.raises(ValueError, match=r"names \{visit\}, which `rule` does not"):
        make_datalist(folder, RULE, label="{patient}_l{visit}.nii.gz", replace=True)


def test_a_rule_that_finds_nothing_says_what_it_saw(folder):
    with pytest.raises(ValueError, match=r"finds no image.*Left out were 12.*p0_T1\.nii\.gz: does not match.*\*\*/"):
        make_datalist(folder, "{patient}-{domain}.nii.gz")
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        make_datalist(folder / "none", RULE)


def write_table(folder: Path, text: str) -> str:
    (folder / "table.csv").write_text(text, encoding="utf-8-sig")
    return f"csv:{folder / 'table.csv'}"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_of_images_with_splits(folder, separator):
    lines = [["Patient", "domain", "image", "split"]]
    for number, split in enumerate(["training"] * 3 + ["validation", "test", "test"]):
        lines += [[f"x{number}", domain, f"p{number}_{domain}.nii.gz", split] for domain in ("T1", "T2")]
    made = make_datalist(folder, write_table(folder, "\n".join(separator.join(line) for line in lines) + "\n\n"))
    assert patients_of(made.content, "test") == {"x4", "x5"}
    assert patients_of(made.content, "validation") == {"x3"}
    assert made.content["parameters"]["rule"] == "csv:table.csv"  # no folder of this machine


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("patient,image\n", ValueError, "must have the columns patient, domain, image.*domain is missing"),
        ("patient,domain,image\np,,x.nii\n", ValueError, "line 2: 'domain' is empty"),
        ("patient,domain,image\np,T1,x.nii\n", FileNotFoundError, "line 2: .*x.nii' does not exist"),
        ("patient,domain,image,split\np,T1,p0_T1.nii.gz,train\n", ValueError, "line 2: 'split' must be.*got 'train'"),
        (
            "patient,domain,image,split\np,T1,p0_T1.nii.gz,test\np,T2,p0_T2.nii.gz,training\n",
            ValueError,
            "'p' is in 'test' and, with p0_T2.nii.gz, in 'training'",
        ),
        ('patient,domain,image\np,"T1,x\n', ValueError, "is not CSV"),
    ],
)
def test_mistakes_in_a_table_are_named_with_their_line(folder, text, error, words):
    with pytest.raises(error, match=words):
        make_datalist(folder, write_table(folder, text))
    assert not (folder / "datalist.json").exists()


# ---- pairs


def test_only_patients_with_all_domains_on_one_grid_are_tested(folder):
    save(folder / "q0_T1.nii.gz")
    for name in ("q1_T1", "q2_T1"):
        save(folder / f"{name}.nii.gz")
    save(folder / "q1_T2.nii.gz", shape=(4, 3, 3))
    save(folder / "q2_T2.nii.gz", shift=0.5)
    made = make_datalist(folder, RULE, split=(0.3, 0.3, 0.4))
    assert {"q0", "q1", "q2"} <= patients_of(made.content, "training")
    paired = {key: patients_of(made.content, key) for key in ("training_paired", "validation", "test")}
    assert set().union(*paired.values()) == {f"p{n}" for n in range(6)}
    assert "no T2: q0" in made.report
    tested = make_datalist(folder, RULE, split=(0, 0, 1), replace=True)
    assert patients_of(tested.content, "test") == {f"p{n}" for n in range(6)}
    assert tested.content["training"] == []
    assert "different grids: register and resample them: q1, q2" in made.report


def test_misaligned_images_are_paired_for_training_when_asked_for(folder):
    save(folder / "q_T1.nii.gz")
    save(folder / "q_T2.nii.gz", shift=7)
    assert "q" not in patients_of(make_datalist(folder, RULE).content, "training_paired")
    made = make_datalist(folder, RULE, misaligned=True, replace=True)
    assert "q" in patients_of(made.content, "training_paired")
    assert "q" not in patients_of(made.content, "test")


def test_images_are_paired_within_a_session(tmp_path):
    for patient in "abc":
        for visit, shift in (("v1", 0), ("v2", 5)):
            for domain in ("T1", "T2"):
                save(tmp_path / patient / visit / f"{domain}.nii.gz", shift=shift)
    made = make_datalist(tmp_path, "{patient}/{visit}/{domain}.nii.gz", split=(0, 0, 1))
    assert len(made.content["test"]) == 6
    assert all(Path(entry["T1"]).parent == Path(entry["T2"]).parent for entry in made.content["test"])


def test_two_images_of_a_domain_on_one_grid_are_not_paired(folder):
    for name in ("p0_1_T1", "p0_2_T1", "p0_1_T2"):
        save(folder / "more" / f"{name}.nii.gz")
    for number in range(1, 4):
        for domain in ("T1", "T2"):
            save(folder / "more" / f"p{number}_1_{domain}.nii.gz")
    made = make_datalist(folder / "more", "{patient}_?_{domain}.nii.gz")
    assert "p0" not in patients_of(made.content, "training_paired")
    assert len([entry for entry in made.content["training"] if entry["patient"] == "p0"]) == 3
    assert "several images of a domain" in made.report


def test_patients_without_pairs_are_split_by_domain_without_a_test(tmp_path):
    for number in range(10):
        save(tmp_path / f"p{number}_{'T1' if number < 6 else 'T2'}.nii.gz")
    with pytest.raises(ValueError, match=r"all of T1, T2 on one grid.*p0: no T2.*--split 0\.9,0\.1,0"):
        make_datalist(tmp_path, RULE)
    made = make_datalist(tmp_path, RULE, split=(0.8, 0.2, 0))
    for domain in ("T1", "T2"):
        assert load_domain(made.path, "training", domain)
        assert load_domain(made.path, "validation", domain)


# ---- splits

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
shares = st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9)).map(lambda t: tuple(x / sum(t) for x in t))


@given(st.sets(names, min_size=3, max_size=40), shares, st.integers())
def test_a_split_is_a_partition_of_the_patients(patients, parts, seed):
    home = draw_splits(patients, parts, seed=seed)
    assert set(home) == patients
    assert set(home.values()) == {split for split, share in zip(SPLITS, parts) if share}
    for split, share in zip(SPLITS, parts):
        assert abs(list(home.values()).count(split) - share * len(patients)) <= 2


@given(st.sets(names, min_size=4, max_size=40), shares, st.integers())
def test_a_new_patient_moves_at_most_two_others(patients, parts, seed):
    *old, _ = patients
    before, after = draw_splits(old, parts, seed=seed), draw_splits(patients, parts, seed=seed)
    assert sum(before[name] != after[name] for name in old) <= 2


@settings(deadline=None, max_examples=25)
@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z0-9-]{1,4}", fullmatch=True), st.sets(st.sampled_from(["T1", "T2"]), min_size=1)
    ),
    shares,
    st.integers(0, 5),
)
def test_whatever_is_found_no_patient_is_in_two_splits(tmp_path_factory, found, parts, seed):
    folder = tmp_path_factory.mktemp("any")
    for patient, domains in found.items():
        for domain in domains:
            save(folder / f"{patient}_{domain}.nii", shape=(2, 2, 1), seed=(patient, domain))
    try:
        made = make_datalist(folder, "{patient}_{domain}.nii", split=parts, seed=seed)
    except ValueError as error:
        assert any(word in str(error) for word in ("finds no image", "cannot be split", "would", "The test needs"))  # noqa: PT017
        assert not (folder / "datalist.json").exists()
        return
    read_datalist(folder)  # refuses a patient in two splits
    splits = [patients_of(made.content, key) for key in SPLITS]
    assert sum(map(len, splits)) == len(set().union(*splits)) == len(found)
    assert patients_of(made.content, "training_paired") <= splits[0]


def test_the_split_follows_the_seed_alone(folder, tmp_path):
    first = make_datalist(folder, RULE).content
    shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("*.json"))
    assert make_datalist(tmp_path / "copy", RULE).content["test"] == first["test"]
    others = [make_datalist(folder, RULE, seed=seed, dry_run=True).content["test"] for seed in range(1, 6)]
    assert any(other != first["test"] for other in others)


def test_a_split_file_keeps_patients_where_they_were(folder):
    first = make_datalist(folder, RULE)
    for number in range(6, 30):
        for domain in ("T1", "T2"):
            save(folder / f"p{number}_{domain}.nii.gz")
    only = make_datalist(folder, RULE, split_file=first.path, replace=True, dry_run=True)
    assert {key: only.content[key] for key in SPLITS} == {key: first.content[key] for key in SPLITS}
    assert "24  not named in the split file: p10, p11, p12, p13, p14 and 19 more" in only.report
    moved = make_datalist(folder, RULE, seed=1, replace=True, dry_run=True)
    assert "change their split from the earlier datalist.json" in moved.report
    grown = make_datalist(folder, RULE, seed=1, split_file=first.path, split=(0.7, 0.1, 0.2), replace=True)
    for key in SPLITS:
        assert patients_of(first.content, key) < patients_of(grown.content, key)
    assert "warning" not in grown.report


def test_a_split_file_is_checked(folder):
    table = folder / "splits.csv"
    for text, words in (
        ("patient,split\np0,test\np0,training\n", "splits.csv, line 3: patient 'p0' is in 'test' and 'training'"),
        ("patient,split\np0,tests\n", "line 2: 'split' must be one of training, validation, test, got 'tests'"),
    ):
        table.write_text(text)
        with pytest.raises(ValueError, match=words):
            make_datalist(folder, RULE, split_file=table)
    table.with_suffix(".json").write_text('{"test": [{"image": "p0_T1.nii.gz"}]}')
    with pytest.raises(ValueError, match=r"splits\.json is not a datalist whose entries name their `patient`"):
        make_datalist(folder, RULE, split_file=table.with_suffix(".json"))


@pytest.mark.parametrize("split", [(0.7, 0.3), (0.5, 0.2, 0.2), (1.2, -0.2, 0), "abc", 3])
def test_shares_must_add_up(folder, split):
    with pytest.raises(ValueError, match=r"`split` must be the three shares.*0\.7,0\.1,0\.2"):
        make_datalist(folder, RULE, split=split)


def test_too_few_patients_are_refused(folder):
    for path in folder.glob("p[2-5]*"):
        path.unlink()
    with pytest.raises(ValueError, match=r"2 patients cannot be split into training, validation, test.*--split 1,0,0"):
        make_datalist(folder, RULE)


def test_a_domain_that_training_would_lack_is_named(folder):
    table = folder / "splits.csv"
    table.write_text("patient,split\n" + "".join(f"p{n},{'training' if n < 2 else 'test'}\n" for n in range(6)))
    for number in (0, 1):
        (folder / f"p{number}_T2.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"training would have no image of T2, of the domains T1, T2"):
        make_datalist(folder, RULE, split_file=table)


# ---- leakage


def refused(folder: Path, *words: str, rule: str = RULE) -> None:
    with pytest.raises(ValueError, match="share an image") as error:
        make_datalist(folder, rule)
    assert all(word in str(error.value) for word in words), error.value
    assert not (folder / "datalist.json").exists()


def test_a_copy_under_another_patient_is_refused(folder):
    shutil.copy(folder / "p0_T1.nii.gz", folder / "x_T1.nii.gz")
    refused(folder, "'p0'", "'x'", "p0_T1.nii.gz", "x_T1.nii.gz", "the same voxels", "remove the copy")


def test_a_copy_with_another_compression_header_and_number_format_is_refused(folder):
    image = nib.load(folder / "p0_T1.nii.gz")
    copy = nib.Nifti1Image(np.asarray(image.dataobj).astype(np.float32), np.diag([2, 2, 2, 1]))
    (folder / "x_T1.nii.gz").write_bytes(gzip.compress(copy.to_bytes(), 1))
    refused(folder, "'p0'", "'x'", "the same voxels")


def test_images_that_agree_in_their_middle_slice_alone_are_two(folder):
    image = nib.load(folder / "p0_T1.nii.gz")
    values = np.array(image.dataobj)
    values[0, 0, 0] += 1
    nib.save(nib.Nifti1Image(values, image.affine), folder / "x_T1.nii.gz")
    assert make_datalist(folder, RULE).content


def test_a_link_to_another_patients_file_is_refused(folder):
    (folder / "x_T1.nii.gz").symlink_to(folder / "p3_T1.nii.gz")
    refused(folder, "'p3'", "'x'", "the same file")


def test_names_that_may_be_one_patient_are_shown(folder):
    save(folder / "P-0_T1.nii.gz")
    assert "names of patients that may be one: P-0 and p0" in make_datalist(folder, RULE).report


def test_a_file_that_cannot_be_read_is_left_out_by_name(folder):
    (folder / "x_T1.nii.gz").write_bytes((folder / "p0_T1.nii.gz").read_bytes()[:30])
    (folder / "y_T1.nii.gz").write_bytes(b"no image")
    save(folder / "z_T1.nii.gz", shape=(4, 3, 2, 5))
    made = make_datalist(folder, RULE)
    assert "cannot be read as NIfTI" in made.report
    assert "must be a volume of three axes, got the shape (4, 3, 2, 5): z_T1.nii.gz" in made.report
    assert "x_T1.nii.gz" in made.report
    assert not {"x", "y", "z"} & patients_of(made.content, "training")


# ---- the command and a training


def test_a_bundle_trains_from_the_datalist_of_the_command(tmp_path, monkeypatch, capsys):
    generate_phantom("brain", tmp_path / "phantom", patients=4, slices=4, size=64)
    for path in (tmp_path / "phantom" / "images").iterdir():
        patient, domain = path.name.removesuffix(".nii.gz").rsplit("_", 1)
        place = tmp_path / "scans" / patient.replace("brain_", "case") / f"{domain.replace('T1', 'mprage')}.nii.gz"
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
    command = ["common", "datalist", str(tmp_path / "scans"), "--rule", "{patient}/{domain}.nii.gz"]
    command += ["--domains", "{'mprage': 'T1', 'T2': 'T2'}", "--split", "0.5,0.25,0.25"]
    monkeypatch.setattr(sys, "argv", command)
    main()
    assert row(capsys.readouterr().out, "training") == ["2", "2", "2", "0", "0"]
    with pytest.raises(SystemExit):
        main()
    assert "error: " in capsys.readouterr().err
    tiny = tmp_path / "tiny.yaml"
    tiny.write_text(TINY + "spacing_mm: [4.0, 4.0, -1]\n")
    places = [
        "--dataset_dir",
        tmp_path / "scans",
        "--output_dir",
        tmp_path / "out",
        "--models_dir",
        tmp_path / "models",
    ]
    done(bundle("training", ["train", tiny], *places, cwd=tmp_path))
    definition = json.loads((tmp_path / "models" / "network.json").read_text())
    assert definition["training_data"]["patients"] == {"training": 2, "validation": 1, "test": 1}
    assert definition["training_data"]["name"] == "scans"
    with (tmp_path / "out" / "validation.csv").open(newline="") as file:
        assert "psnr" in next(csv.DictReader(file))  # the validation patient has both domains
