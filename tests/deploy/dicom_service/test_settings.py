"""The rule file: what a rule takes, and how a wrong file is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from common.deploy.dicom_service.settings import Peer, Rule, Settings, StowUrl, read_settings
from tests.helpers.bundles import ROOT
from tests.helpers.translations import OPTIONS

BUNDLES = sorted(OPTIONS)


def test_it_listens_on_the_loopback_unless_told_otherwise(settings):
    assert settings(104, folder="a").address == Settings.address == "127.0.0.1"
    assert settings(104).destination == Peer("ARCHIVE", "127.0.0.1", 104)
    assert settings(104, destination="{stow: 'http://127.0.0.1:8042/dicom-web/'}").destination == StowUrl(
        "http://127.0.0.1:8042/dicom-web"
    )


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_rule_for_each_bundle_has_the_modality_of_its_task(bundle, settings):
    (rule,) = settings(1, bundle=bundle, target="null", match="{}", options="{}").rules
    assert rule.match == {"modality": "MR" if bundle == "nec_t1t2" else "CT"}
    assert rule.bundle == ROOT / "bundles" / bundle
    assert rule.seed()[0] == bundle


@pytest.mark.parametrize(
    ("match", "header", "why"),
    [
        ({}, {"Modality": "CT"}, None),
        ({}, {"Modality": "MR"}, "modality is 'MR'"),
        ({"kernel": "^b70f$"}, {"Modality": "CT", "ConvolutionKernel": ["B70f", "2"]}, None),
        ({"kernel": "^b70f$"}, {"Modality": "CT"}, "kernel is ''"),
        ({"description": "thorax"}, {"Modality": "CT", "SeriesDescription": "CT Thorax 1.0"}, None),
        ({"body_part": "^chest$"}, {"Modality": "CT", "BodyPartExamined": "HEAD"}, "body_part is 'HEAD'"),
        ({"contrast": "NECT"}, {"Modality": "CT"}, None),
        ({"contrast": "NECT"}, {"Modality": "CT", "ContrastBolusAgent": "Iomeprol"}, "contrast is CECT"),
        (
            {"contrast": "NECT"},
            {"Modality": "CT", "ContrastBolusAgent": "Iomeprol", "ContrastBolusRoute": "ORAL"},
            "contrast is not known: contrast agent by the route 'ORAL': neither plain nor enhanced",
        ),
    ],
)
def test_a_rule_takes_a_series_by_its_header(match, header, why):
    assert Rule("x", Path(), {"modality": "CT", **match}).why_not(header) == why


def test_a_rule_takes_mr_by_its_sequence():
    rule = Rule("x", Path(), {"modality": "MR", "sequence": "T1"})
    assert rule.why_not({"Modality": "MR", "SeriesDescription": "t1_se_tra"}) is None
    assert rule.why_not({"Modality": "MR", "SeriesDescription": "t2_tse_tra"}) == "sequence is T2"


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"senders": "[]"}, "`senders` must be a list of at least one entry, got \\[\\]"),
        ({"senders": "[A TITLE OF TWENTY ONE]"}, "`senders` must be AE titles of 1 to 16 printable ASCII characters"),
        ({"port": "99999"}, "`port` must be a whole number from 0 to 65535, got 99999"),
        ({"quiet_seconds": "soon"}, "`quiet_seconds` must be a number of at least 0, got 'soon'"),
        ({"quiet_seconds": "1\nlisten: all"}, r"the file has no use for \['listen'\]; it may have folder, senders"),
        ({"destination": "{stow: ftp://x}"}, "`destination.stow` must begin with http:// or https://"),
        ({"destination": "nobody"}, "`destination` .* must be a mapping, got 'nobody'"),
        ({"bundle": "gcl"}, "`bundle` must be one of .*'ggcl'.*got 'gcl'"),
        ({"target": "B99f"}, r"`rules\[0\].target` must be one of B30f, B50f, B70f, got 'B99f'"),
        ({"match": "{kernel: '('}"}, r"`rules\[0\].match.kernel` must be a regular expression, got '\('"),
        (
            {"match": "{kernels: B70f}"},
            r"`rules\[0\].match` has no use for \['kernels'\]; it may have modality, kernel",
        ),
        ({"match": "{modality: MR}"}, r"`rules\[0\].match.modality` must be CT for ggcl, got 'MR'"),
        ({"options": "{output_dir: /x}"}, r"`rules\[0\].options` must not have \['output_dir'\]"),
        ({"folder": "[a"}, "must be YAML, got"),
    ],
)
def test_a_wrong_file_is_refused_by_its_name_and_key(replaced, message, settings):
    with pytest.raises(ValueError, match=f"rules.yaml': {message}|rules.yaml' {message}"):
        settings(104, **replaced)


def test_half_widths_that_were_never_calibrated_are_refused_before_a_series_arrives(settings, tmp_path):
    bundle = tmp_path / "ggcl"
    shutil.copytree(ROOT / "bundles" / "ggcl", bundle, ignore=shutil.ignore_patterns("uncertainty.json", "iterative"))
    with pytest.raises(ValueError, match=r"`rules\[0\]\.options\.uncertainty`: .*uncertainty\.json does not exist"):
        settings(104, bundle=str(bundle), options="{uncertainty: true}")


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"absent\.yaml"):
        read_settings("absent.yaml")
