"""DICOM series: found by content, sorted by position, read in HU or as stored, and written back as derived series."""

from .reader import DicomSeriesReader, image_readers, source_files

__all__ = ["DicomSeriesReader", "image_readers", "source_files"]
