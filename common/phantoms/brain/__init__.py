"""The brain phantom: anatomy, MR signal and the subject's variation."""
