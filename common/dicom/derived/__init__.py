"""Derived DICOM series: the translated voxels on the source's grid, with headers that say what was done."""
