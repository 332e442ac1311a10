"""Tests that run on a GPU; on a machine without one they are skipped, unless GPU_TEST_DEVICE names another device."""
