"""Checks of an image before it is translated; each finding has its evidence and its cure."""
