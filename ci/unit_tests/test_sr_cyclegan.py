"""Unit test of sr_cyclegan, in the form of the MONAI Model Zoo."""

import unittest

import translation_cases


class TestSRCycleGAN(translation_cases.TranslationCase):
    bundle = "sr_cyclegan"
    domains = ("clinical", "micro")
    training = {"factor": 2, "patch_size": 16, "spacing_mm": [1.0, 1.0], "mask_key": None, "grey_levels": [-1000, 0]}
    inference = {"region": "all"}


if __name__ == "__main__":
    unittest.main()
