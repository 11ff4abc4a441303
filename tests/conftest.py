"""What holds for every test: one torch thread a process, since workers share the cores."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
