"""Unit test of nect2cect, in the form of the MONAI Model Zoo."""

import unittest

import translation_cases


class TestNECT2CECT(translation_cases.TranslationCase):
    bundle = "nect2cect"
    domains = ("NECT", "CECT")
    stages = ("train_classifier.yaml",)
    training = {
        "classifier_epochs": 1,
        "image_size": 64,
        "training_list": "training",
        "spacing_mm": [1.0, 1.0],
        "fit": None,  # no pairs to fit a curve on
    }


if __name__ == "__main__":
    unittest.main()
