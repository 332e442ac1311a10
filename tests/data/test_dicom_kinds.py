"""What says of itself that a network made it, whatever pydicom knows of the attribute."""

from __future__ import annotations

import pytest

from common.dicom.files import SYNTHETIC_DATA, is_synthetic

pydicom = pytest.importorskip("pydicom")


@pytest.mark.parametrize(
    ("representation", "value", "expected"),
    [("CS", "YES", True), ("CS", "NO", False), ("CS", "", False), ("UN", b"YES ", True), ("UN", b"NO", False)],
)
def test_the_attribute_is_read_by_its_number(representation, value, expected):
    """pydicom 2 has no name for it, and reads it as bytes (UN) where the file does not say what it is."""
    header = pydicom.Dataset()
    header.add_new(SYNTHETIC_DATA, representation, value)
    assert is_synthetic(header) is expected
    assert not is_synthetic(pydicom.Dataset())
    assert pydicom.datadict.keyword_for_tag(SYNTHETIC_DATA) in ("SyntheticData", "")
