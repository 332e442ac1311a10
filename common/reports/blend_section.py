"""The section about blends of kernels: the network bound to a blend, beside the blend of its outputs."""

from __future__ import annotations

from . import html
from .conversion_tables import KERNEL_NOTE, kernel_table, paper_table
from .inputs import Inputs

BLEND_NOTE = (
    "Kernels between the trained ones, made by weights instead of a name. Reconstruction is linear in the kernel: the "
    "true image is the same blend of the target images, and who has a conversion to each kernel can blend the outputs; "
    "the network's own blend is worth its place if it is no worse than that. Filters are blended by their outputs. "
    "Mean (SD) over patients, best value of each column bold."
)


def blend_section(inputs: Inputs) -> str:
    """Image quality, noise and sharpness of the blends; empty where none was scored."""
    directions = list(inputs.blends)
    return html.section(
        "Blends of kernels",
        html.block("Image quality", paper_table(inputs.blends, directions), note=BLEND_NOTE),
        html.block("Noise, sharpness and emphysema index", kernel_table(inputs.blends, directions), note=KERNEL_NOTE),
    )
