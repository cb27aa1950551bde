"""The names of classes and functions that a checkpoint's pickles may hold."""

from functools import lru_cache

import torch

TENSORS = {f"torch._utils _rebuild_{name}" for name in ("tensor", "tensor_v2", "tensor_v3", "qtensor")}
OF_TENSORS = {f"torch._utils _rebuild_{name}" for name in ("parameter", "parameter_with_state", "sparse_tensor")}
TYPES = ("torch Tensor", "torch.nn.parameter Parameter")
ITEM_BYTES = {
    "Byte": 1, "Char": 1, "Bool": 1, "QInt8": 1, "QUInt8": 1, "QUInt4x2": 1, "QUInt2x4": 1, "Untyped": 1,
    "Short": 2, "Half": 2, "BFloat16": 2, "Int": 4, "Float": 4, "QInt32": 4,
    "Long": 8, "Double": 8, "ComplexFloat": 8, "ComplexDouble": 16,
}  # fmt: skip


@lru_cache(maxsize=1024)
def may_be_a_value(name: str) -> bool:
    """Whether torch loads the name where nothing calls it: a dtype, a scheme of quantization, or a part of a tensor."""
    if name in TENSORS or name in OF_TENSORS or name in TYPES:
        return True
    owner, _, own = name.rpartition(" ")
    is_storage = own.endswith("Storage") and own.removesuffix("Storage") in ITEM_BYTES
    return is_storage or (owner == "torch" and isinstance(getattr(torch, own, None), (torch.dtype, torch.qscheme)))
