"""The doors for PyTorch users: modules, exported programs, compiler backends, training steps, and measured memory."""

from topoformer.pytorch.export import capture, optimize

__all__ = ["capture", "optimize"]
