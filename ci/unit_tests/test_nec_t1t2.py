"""Unit test of nec_t1t2, in the form of the MONAI Model Zoo."""

import unittest

import translation_cases


class TestNEC(translation_cases.TranslationCase):
    bundle = "nec_t1t2"
    domains = ("T1", "T2")
    lowest = 100
    training = {"image_size": 64}


if __name__ == "__main__":
    unittest.main()
