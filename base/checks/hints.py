"""What to change where torch or Python rejects a batch, a model's outputs or a loss, in one sentence each."""

import re

_CLASS_NUMBERS = "Class numbers are int64 with the shape (B,). "
_HINTS = (
    ("view size is not comp", 'Use reshape instead of view, or write "channels_last": false in the model section.'),
    ("'target'.* must be Tensor", _CLASS_NUMBERS + "Return numbers, not names, from the data set."),
    ("target dtype", _CLASS_NUMBERS + "Return them from the data set with .long()"),
    ("multi-target", _CLASS_NUMBERS + "For (B, 1) write targets.squeeze(1), for one-hot targets.argmax(1)."),
    (
        "batch_size .* to match target batch_size",
        "The model must return one row for each sample: look at its reshapes.",
    ),
    ("[Dd]ouble", "float64 comes from NumPy or Python numbers. Return float32 from the data set: .float()"),
    (r"\b[Bb]yte\b|unsigned char", "Raw bytes are uint8. Return float32 from the data set: .float() / 255"),
    (r"scalar type Long|\bInt\b", "Class numbers are int64. Return them from the data set with .long()"),
    (
        "expected input.* to have .* channels",
        "A sample is (channels, height, width): in the data set, write permute(2, 0, 1) or [None], or change the "
        "model's number of input channels.",
    ),
    (
        r"mat1 and mat2 shapes cannot be multiplied \(\d+x(\d+) and (\d+)x",
        r"The linear layer takes \2 features and gets \1: write in_features=\1, or another size of the samples.",
    ),
    (
        "must match the size of tensor|[Tt]arget size",
        "This loss compares outputs and targets of the same shape. For class numbers, use cross_entropy.",
    ),
    (
        "does not have a grad_fn",
        "The loss does not depend on the parameters: remove .detach(), argmax, torch.no_grad() or .item() before it.",
    ),
    (
        r"'(float|int|ndarray|numpy\.\w+)' object has no attribute 'backward'",
        r"The loss is of type \1. Return a tensor: without .item() and .numpy().",
    ),
    ("numpy\\(\\) on Tensor that requires grad", "Use functions of torch: NumPy keeps no gradients."),
    ('required "forward" function', "Write def forward(self, inputs) in the class, and look at its spelling."),
    (
        "NVIDIA driver|not compiled with CUDA|tensors to be on the same device",
        "Leave .cuda() and .to(...) out: model and batches are moved. Write new tensors with device=inputs.device.",
    ),
    (
        "through the graph a second time",
        "Call backward() once for each loss, and .detach() what is kept from one step to the next.",
    ),
)


def hints_for(error: BaseException) -> list[str]:
    """What may help, of an error of a step."""
    for pattern, hint in _HINTS:
        if found := re.search(pattern, str(error)):
            return [found.expand(hint)]
    return []
