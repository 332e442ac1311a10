"""Training data from the names of images."""

from __future__ import annotations

import pytest

from common.deploy.monailabel.training import datalist_of_names


def images(*names: str) -> dict[str, str]:
    return {name: f"/studies/{name}.nii.gz" for name in names}


def patients(entries) -> list[str]:
    return sorted({entry["patient"] for entry in entries})


def test_a_fifth_of_the_patients_of_each_domain_is_for_validation():
    names = [f"p{n:02}_{domain}" for n in range(10) for domain in ("T1", "T2")]
    found = datalist_of_names(images(*names, "p00_mask", "notes"), ["T1", "T2"])
    assert patients(found["validation"]) == ["p08", "p09"]
    assert patients(found["training"]) == [f"p{n:02}" for n in range(8)]
    assert {"image": "/studies/p00_T1.nii.gz", "domain": "T1", "patient": "p00"} in found["training"]
    assert len(found["training"]) == 16
    assert found["training_paired"][0] == {
        "patient": "p00",
        "T1": "/studies/p00_T1.nii.gz",
        "T2": "/studies/p00_T2.nii.gz",
    }


def test_unpaired_patients_make_no_pair_and_each_domain_is_in_both_splits():
    found = datalist_of_names(images("a_T1", "b_T1", "c_T2", "d_T2"), ["T1", "T2"])
    assert found["training_paired"] == []
    for split in ("training", "validation"):
        assert {entry["domain"] for entry in found[split]} == {"T1", "T2"}


@pytest.mark.parametrize("names", [(), ("a_T1", "b_T1"), ("a_T1", "b_T1", "c_T2"), ("aT1", "bT1", "a_T2", "b_T2")])
def test_a_domain_of_fewer_than_two_patients_is_refused(names):
    with pytest.raises(ValueError, match=r"images of 'T[12]' of at least two patients, named <patient>_T[12].nii.gz"):
        datalist_of_names(images(*names), ["T1", "T2"])
