"""Kept for trainers written for an earlier version: it has moved to `utils.modules`."""

from utils.modules.gradients import clip_gradients as clip_gradients
