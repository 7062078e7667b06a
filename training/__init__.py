"""Training of low-precision networks by distillation (PyTorch)."""
