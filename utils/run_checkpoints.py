"""Kept for trainers written for an earlier version: it has moved to `utils.checkpoints`."""

from utils.checkpoints.run_checkpoints import load_weights as load_weights
