"""The section about what the networks see: the picture of `python -m common features`."""

from __future__ import annotations

from pathlib import Path

from . import html

PICTURE = "features.png"
FEATURE_NOTE = (
    "A column a direction: the converted image, then clusters (k-means of pixels' feature vectors, common to a row) "
    "of the generator's decoder feature and of the discriminator's semantic map, coloured from the darkest to the "
    "brightest tissue. As figure 4 of the KCGAN thesis; the two rows' colours have nothing to do with each other."
)


def feature_section(output_dir: Path) -> str:
    """The picture and its note; empty where there is none."""
    path = output_dir / PICTURE
    if not path.is_file():
        return ""
    picture = html.image(path.read_bytes(), "Clusters of the generator's and the discriminator's features")
    return html.section("Features", html.block("Clusters", picture, note=FEATURE_NOTE))
