"""Classical conversion of reconstruction kernels: radial filters fitted with and without pairs."""
