"""The one place that knows about other processes. There is one so far."""

import torch


def sum_over_ranks(totals: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all processes, the same on each."""
    return totals
