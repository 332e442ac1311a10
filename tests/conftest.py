"""One thread a test process: with several, OpenMP's busy waiting makes a shared machine up to 50 times slower."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start

import torch

torch.set_num_threads(1)
