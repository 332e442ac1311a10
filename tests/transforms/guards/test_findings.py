"""Guards: what each mode lets pass, and that everything found is noted in the image's meta data."""

from __future__ import annotations

import json
import logging
import threading
import warnings

import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch

from common.errors import ImpossibleError, collected_warnings
from common.transforms import Guards
from common.transforms.guards.findings import noted

logger = logging.getLogger("common.somewhere")


def item() -> dict[str, MetaTensor]:
    return {"image": MetaTensor(torch.zeros(1, 2, 2, 1))}


def refuse(data):
    raise ValueError("scan.nii is upside down.")


def doubt(data):
    logger.warning("scan.nii looks odd.")
    return data


def doubt_by_warnings(data):
    warnings.warn("scan.nii looks old.", stacklevel=1)
    return data


def test_a_refusal_names_the_way_out():
    with pytest.raises(ValueError, match=r"^scan.nii is upside down. \(`--guards warn` translates it nevertheless.\)$"):
        Guards({"side": refuse})(item())


def test_an_overridden_refusal_is_logged_and_noted_and_the_other_checks_go_on(caplog):
    found = noted(Guards({"side": refuse, "look": doubt}, "warn")(item())["image"])
    assert found == [
        {"check": "side", "verdict": "overridden", "evidence": "scan.nii is upside down."},
        {"check": "look", "verdict": "warned", "evidence": "scan.nii looks odd."},
    ]
    assert "Translated nevertheless, as `--guards warn` says." in caplog.text


def test_doubts_of_both_kinds_are_passed_on_and_noted(caplog):
    with pytest.warns(UserWarning, match="looks old"):
        checked = Guards({"look": doubt, "age": doubt_by_warnings, "rest": dict})(item())
    assert "scan.nii looks odd." in caplog.text
    assert [(entry["check"], entry["verdict"]) for entry in noted(checked["image"])] == [
        ("look", "warned"),
        ("age", "warned"),
        ("rest", "passed"),
    ]


@pytest.mark.parametrize("off", ["off", False])  # YAML reads a bare `off` as False
def test_off_runs_only_what_finds_something_that_is_needed(off):
    guards = Guards({"side": refuse}, off, always={"found": lambda data: {**data, "kernel": "B30f"}})
    checked = guards(item())
    assert checked["kernel"] == "B30f"
    assert noted(checked["image"]) == [{"check": "found", "verdict": "passed"}]


@pytest.mark.parametrize("mode", ["refuse", "warn", "off"])
def test_what_is_always_run_is_never_overridden(mode):
    with pytest.raises(ValueError, match=r"upside down\.$"):
        Guards({}, mode, always={"side": refuse})(item())


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match=r"`guards` must be one of refuse, warn, off, got 'maybe'."):
        Guards({}, "maybe")


def test_findings_survive_a_data_loader():
    loader = DataLoader(Dataset([item()], Guards({"look": doubt})), batch_size=1)
    (batch,) = loader
    assert noted(batch["image"])[0]["check"] == "look"
    assert noted(decollate_batch(batch)[0]["image"])[0]["verdict"] == "warned"


def test_an_image_without_guards_has_no_findings():
    assert noted(item()["image"]) == []


def test_what_another_thread_warns_of_meanwhile_is_not_collected():
    logger = logging.getLogger("common.engines.elsewhere")

    def elsewhere():
        logger.warning("the last output is doubtful")
        warnings.warn("so it is", stacklevel=1)

    def check():
        with collected_warnings(issued=True) as found:
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            logger.warning("the next input is doubtful")
            warnings.warn("here, too", stacklevel=1)
        return found

    with pytest.warns(UserWarning, match="so it is"):
        found = check()
    assert found == ["the next input is doubtful", "here, too"]


@pytest.mark.parametrize("mode", ["refuse", "warn"])
def test_what_is_impossible_is_refused_in_every_mode_without_a_promise(mode):
    def check(item):
        raise ImpossibleError("scan.nii has 2 slices.")

    with pytest.raises(ImpossibleError) as error:
        Guards({"axial": check}, mode)(item())
    assert "--guards warn" not in str(error.value)


def test_what_the_reader_found_doubtful_is_told_and_noted(caplog):
    doubtful = item()
    doubtful["image"].meta["doubts"] = json.dumps(["its sizes contradict each other"])
    (finding,) = noted(Guards({})(doubtful)["image"])
    assert finding == {"check": "header", "verdict": "warned", "evidence": "its sizes contradict each other"}
    assert "is doubtful: its sizes contradict each other. Check it." in caplog.text
    assert noted(Guards({}, "off")(doubtful)["image"]) == []
