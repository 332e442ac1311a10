"""Digital phantoms: the embedded default data, generated from a seed with exact ground truth."""

from .abdomen.phantom import ABDOMEN, VARIED_ABDOMEN
from .brain.phantom import BRAIN, BRAIN_PD
from .chest.phantom import CHEST
from .kinds import KINDS, generate_phantom
from .lung.phantom import LUNG, LUNG_WALLS

__all__ = ["ABDOMEN", "BRAIN", "BRAIN_PD", "CHEST", "KINDS", "LUNG", "LUNG_WALLS", "VARIED_ABDOMEN", "generate_phantom"]
