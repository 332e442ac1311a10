"""The chest phantom: anatomy and the CT of it with several reconstruction kernels."""
