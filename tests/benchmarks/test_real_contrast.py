"""The judgement of contrast enhancement on a real scan: on volumes of known numbers, and its committed results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from benchmarks import real_contrast
from benchmarks.real_contrast import (
    DRAWN,
    ENHANCED,
    FIRST_LABELLED,
    JUDGED,
    LABELS,
    LAST_LABELLED,
    PLAIN,
    RANGES,
    RESULT,
    between,
    draw_labels,
    find_regions,
    measure,
    picture,
)
from tests.helpers.bundles import ROOT
from tests.helpers.shared import require_shared

PAGE = ROOT / "docs" / "real_scans_contrast.md"


def patient():
    """An abdomen with a liver and both kidneys in the labelled slices, and below them one that must not count."""
    x, y = np.mgrid[:60, :50]
    slices = LAST_LABELLED + 1
    source = np.full((60, 50, slices), -1000.0, dtype=np.float32)
    source[np.hypot((x - 30) / 27, (y - 25) / 22) < 1] = -100
    label = np.zeros(source.shape, dtype=np.uint8)
    for value, (a, b, r) in {5: (20, 32, 7), 2: (20, 17, 4), 3: (42, 17, 4)}.items():
        inside = np.hypot(x - a, y - b) < r
        source[inside] = 40
        label[inside, FIRST_LABELLED:] = value
    source[28:32, 10:14] = 700
    return source, label


def test_each_region_is_measured_in_its_labelled_voxels():
    source, label = patient()
    regions = find_regions(source, label)
    output = source + np.select([label == 5, label == 2, label == 3], [50.0, 120.0, 100.0], 0)
    output[..., :FIRST_LABELLED] += 999  # is not judged
    rows = measure(output, source, regions)
    assert (rows["liver"]["change_hu"], rows["liver"]["sd_hu"], rows["liver"]["source_hu"]) == (50, 0, 40)
    assert (rows["kidney_right"]["change_hu"], rows["kidney_left"]["change_hu"]) == (120, 100)
    assert rows["kidney_right_rim"]["voxels"] + rows["kidney_right_core"]["voxels"] == rows["kidney_right"]["voxels"]
    for region in ("fat", "cortical_bone", "air"):
        assert rows[region]["voxels"] > 50
        assert rows[region]["largest_hu"] == 0
    assert rows["fat"]["source_hu"] == -100
    assert rows["cortical_bone"]["source_hu"] == 700


def test_outlines_are_filled_in_between():
    found = between({2: (10, 8, 4, 4), 6: [(14, 4), (14, 12), (22, 12), (22, 4)]}, (60, 40, 8))
    assert np.flatnonzero(found.any(axis=(0, 1))).tolist() == [2, 3, 4, 5, 6]
    centres = [np.argwhere(found[..., z])[:, 0].mean() for z in range(2, 7)]
    assert centres[0] == pytest.approx(20.5, abs=1)  # pixels are twice the outlines'
    assert centres[-1] == pytest.approx(36.5, abs=2)
    assert centres == sorted(centres)


def test_no_training_file_is_the_judged_one():
    assert not {*ENHANCED, PLAIN} & set(JUDGED)


def test_the_drawn_organs_have_the_size_and_hu_of_organs():
    scan = nib.load(require_shared("data", "abdomen_ct", PLAIN))
    label = draw_labels(scan)
    values = np.asarray(nib.as_closest_canonical(scan).dataobj, dtype=np.float32)
    millilitres = float(np.prod(scan.header.get_zooms()[:3])) / 1000
    expected = {2: (100, 250, 20, 40), 3: (100, 250, 20, 40), 52: (20, 80, 30, 55), 5: (300, 700, 50, 75)}
    assert set(np.unique(label)) == {0, *DRAWN}
    for value, (least, most, low, high) in expected.items():
        assert least < (label == value).sum() * millilitres < most
        assert low < values[label == value].mean() < high


def test_the_picture_has_the_right_of_the_patient_on_its_left_and_front_above(tmp_path, monkeypatch):
    source, _ = patient()
    source[40:45, 30:35] = 200  # X runs to the right, Y to the front
    monkeypatch.setattr(real_contrast, "judged", lambda originals: (source, None))
    monkeypatch.setattr(real_contrast, "outputs", lambda *given: {"network": source})
    picture("", models="", output=str(tmp_path / "picture.png"))
    tile = np.asarray(Image.open(tmp_path / "picture.png"))[: 3 * 30, : 3 * 60]
    rows, columns = np.nonzero(tile == 255)
    assert rows.size == 9 * 25
    assert columns.max() < 3 * 20
    assert rows.min() >= 3 * 15


def test_the_committed_numbers_are_on_the_page():
    page = PAGE.read_text(encoding="utf-8")
    commands = [line.split()[2:] for line in page.splitlines() if line.startswith("python benchmarks/real_contrast.py")]
    tables = [command for command in commands if command[0] in ("table", "phantom")]
    assert len(tables) >= 3
    for command in tables:
        line = [sys.executable, str(Path("benchmarks", "real_contrast.py")), *command]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
        rows = [row.strip() for row in done.stdout.splitlines() if row.startswith("|")]
        assert len(rows) > 2
        assert [row for row in rows if row not in page] == []


def test_the_scored_weights_are_the_shipped_ones_and_the_ranges_are_complete():
    content = json.loads(RESULT.read_text())
    shipped = json.loads((ROOT / "bundles" / "nect2cect" / "models" / "network.json").read_text())["checksum"]
    assert [run["name"] for run in content["runs"] if run["weights_sha256"] == shipped] == ["network"]
    ranges = json.loads(RANGES.read_text())["ranges"]
    assert set(ranges) <= {*LABELS, "fat", "cortical_bone", "air"}
    assert set(ranges) <= {row["region"] for row in content["rows"]}
