"""Unit test of kcgan_kernel_conversion, in the form of the MONAI Model Zoo."""

import unittest

import translation_cases


class TestKCGAN(translation_cases.TranslationCase):
    bundle = "kcgan_kernel_conversion"
    domains = ("B30f", "B50f", "B70f")
    training = {"critic_steps": 1}
    inference = {"source": "B30f", "target": "B70f"}


if __name__ == "__main__":
    unittest.main()
