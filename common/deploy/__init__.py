"""Running the bundles in servers and platforms beside MONAI itself."""
