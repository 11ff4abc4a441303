PYTHON ?= python3
VENV   ?= .venv
EXTRAS ?= text,viz,dev
# A machine without a GPU takes the CPU build of torch; set TORCH_BACKEND=cpu where pip would fetch the CUDA one.
TORCH  ?= $(shell if command -v nvidia-smi >/dev/null 2>&1; then echo 'torch>=2.13,<2.16'; else echo 'torch==2.13.0'; fi)
