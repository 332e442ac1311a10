"""`python -m common datalist`: the datalist of a folder of images, split by patient."""
