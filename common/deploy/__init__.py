"""Integrations of the bundles with MONAI Label and MONAI Deploy."""
