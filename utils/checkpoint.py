"""Kept for trainers written for an earlier version: it has moved to `utils.checkpoints`."""

from utils.checkpoints.checkpoint import Stateful as Stateful
