"""Make the datalist of a folder of images, split by patient: `python -m common datalist`."""
