"""Which operations of a network are smooth, so that its loss can be β-smooth."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

_SMOOTH = {
    # that move numbers only
    "AccumulateGrad", "Alias", "AsStrided", "Cat", "Clone", "ConstantPadNd", "Copy", "Expand",
    "Index", "IndexSelect", "Permute", "Repeat", "ReshapeAlias", "Select", "Slice", "Split",
    "SplitWithSizes", "Squeeze", "Stack", "T", "ToCopy", "Transpose", "Unbind", "Unsqueeze",
    "UnsafeView", "View",
    # linear and multilinear ones
    "AdaptiveAvgPool2D", "Add", "Addbmm", "Addmm", "Addmv", "AvgPool2D", "Baddbmm", "Bmm",
    "Convolution", "Div", "Dot", "Embedding", "Linear", "Mean", "Mm", "MkldnnConvolution", "Mul",
    "Mv", "Neg", "Rsub", "Sub", "Sum",
    # functions of one number, where they are defined
    "Celu", "Cos", "Cosh", "Erf", "Exp", "Gelu", "Log", "Log1P", "LogSigmoid", "Mish", "Reciprocal",
    "Rsqrt", "Sigmoid", "Silu", "Sin", "Sinc", "Sinh", "Softplus", "Sqrt", "Tanh",
    # of several
    "LogSoftmax", "Logsumexp", "NativeGroupNorm", "NativeLayerNorm", "Prod", "Softmax", "Std",
    "Var",
}  # fmt: skip
"""By autograd's names. ReLU, max-pooling, abs, clamp and what torch may add are not among them."""


def has_smooth_operations_only(outputs: Tensor) -> bool:
    """Whether all that lies between the weights and these outputs is known to be smooth.

    Args:
        outputs: with their graph of autograd. It holds the operations that were made with trained
            weights or with what came of them, whoever wrote the model.
    """
    seen, left = set(), [outputs.grad_fn]
    while left:
        node: Any = left.pop()
        if node is None or node in seen:
            continue
        if not _is_smooth(node):
            return False
        seen.add(node)
        left += [each for each, _ in node.next_functions]
    return True


def _is_smooth(node: Any) -> bool:
    name = re.sub(r"Backward\d*$", "", node.name().rpartition("::")[2])
    if name == "Elu":  # of which only those have no kink at 0 whose two slopes are the same
        return bool(node._saved_alpha * node._saved_input_scale == 1)
    if name == "Pow":
        exponent = node._saved_exponent  # a number, or a tensor of them
        is_number = isinstance(exponent, (int, float))
        return is_number and float(exponent).is_integer() and exponent >= 0
    return name in _SMOOTH or name.startswith("ScaledDotProduct")
