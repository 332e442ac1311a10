"""The lung phantom: parenchyma at micro CT resolution and its clinical CT."""
