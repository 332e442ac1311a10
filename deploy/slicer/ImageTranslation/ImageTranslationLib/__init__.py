"""What the module does without 3D Slicer: it talks to a MONAI Label server, or runs the command line."""
