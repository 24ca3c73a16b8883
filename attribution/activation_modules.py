"""Activation functions that come as modules, recognised by what they compute, in whatever functions it is written."""

import torch
from torch import Tensor, nn

from attribution.backward_relu import BackwardReLU, Deconvolved, refuse_rectifier
from attribution.capture import record_calls
from attribution.network import Network

FAR = 1000.0  # where a saturating function has long reached its bound


def require_relu_alone(network: Network, inputs: Tensor) -> None:
    """Raise `InputError` if the network calls a module that is another rectifier than ReLU, such as CLIP's QuickGELU.

    Args:
        inputs: (N, …); one image is enough.
    """
    key = "rectifiers", inputs.shape[1:]
    if key not in network.memo:
        image = inputs[:1].detach().clone().requires_grad_()
        with torch.enable_grad():
            calls = record_calls(network, image)
        modules = dict.fromkeys(call.module for call in calls if call.module is not None and call.output.requires_grad)
        others = (type(each).__name__ for each in modules if each is not None and is_other_rectifier(each, inputs))
        network.memo[key] = next(others, None)
    if name := network.memo[key]:
        refuse_rectifier(name)


@torch.no_grad()
def is_other_rectifier(module: nn.Module, like: Tensor) -> bool:
    """Return whether a module without parts and weights is a function of each value that is neither linear nor ReLU.

    A ReLU that is written out in functions that its rules don't know, such as `where`, counts as another one.
    Saturating functions (sigmoid, tanh), which gate and don't rectify, are none.
    """
    if module._modules or module._parameters or module._buffers:
        return False
    values = torch.linspace(-6, 6, 49, dtype=like.dtype, device=like.device)
    order = torch.arange(49, device=like.device) * 10 % 49
    try:
        results = [
            module.forward(each.clone().view(7, 7)).flatten() for each in (values, values[order], 0 * values + FAR)
        ]
    except Exception:  # somebody's module may raise anything for such inputs, as pooling does: it is no activation
        return False
    if not all(isinstance(result, Tensor) and result.shape == values.shape for result in results):
        return False
    result, shuffled, far = results
    is_pointwise = torch.allclose(result[order], shuffled, rtol=1e-4, atol=1e-6)
    is_linear = torch.allclose(result, torch.lerp(result[0], result[-1], (values + 6) / 12), atol=1e-4)
    if not is_pointwise or far[0].abs() <= FAR / 2 or is_linear:
        return False
    return not (torch.equal(result, values.relu()) and is_reached(module, values))


@torch.enable_grad()
def is_reached(module: nn.Module, values: Tensor) -> bool:
    """Return whether a rule for ReLU finds the functions of which a module makes one."""
    rule = BackwardReLU(Deconvolved)
    with rule:
        module.forward(1 * values.requires_grad_())
    return rule.has_applied
