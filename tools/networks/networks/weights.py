"""Random weights under which values neither vanish nor explode, so that an error anywhere shows."""

import math

import torch
from torch import nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
#: Below this, numbers that initialisation left near zero would hide what they are multiplied with or added to.
SMALL = 0.1


@torch.no_grad()
def randomize(module):
    """Makes what stays near zero after initialisation large enough to matter."""
    norms = {id(p) for m in module.modules() if is_norm(m) for p in m.parameters(recurse=False)}
    for parameter in module.parameters():
        if not parameter.is_floating_point():
            continue
        if id(parameter) in norms:
            parameter.add_(torch.randn_like(parameter) * SMALL)
        elif parameter.dim() < 2:
            if parameter.abs().max() < SMALL:
                parameter.copy_(torch.randn_like(parameter) * SMALL)
        else:
            grow(parameter)


def is_norm(module):
    return "Norm" in type(module).__name__


def grow(weight):
    """Scales a matrix, a kernel or a table up to results as large as what goes in."""
    fan = math.prod(weight.shape[1:])
    wanted = 1 / math.sqrt(fan) if fan > 1 else SMALL
    std = weight.std().item() if weight.numel() > 1 else abs(weight.item())
    if std < 1e-5:
        weight.copy_(torch.randn_like(weight) * wanted)
    elif std < 0.7 * wanted:
        weight.mul_(wanted / std)


@torch.no_grad()
def calibrate(plain, inputs):
    """Gives batch norms statistics that fit the size of what passes them, all channels of a layer alike.

    Statistics of each channel, as training finds them, would make every difference larger, layer by layer: channels
    of random networks differ little from one input to the next.
    """

    def observe(norm, arguments):
        square = arguments[0].pow(2).mean()
        norm.running_mean.normal_().mul_(SMALL * square.sqrt())
        norm.running_var.uniform_(0.7, 1.4).mul_(square)

    norms = [m for m in plain.modules() if isinstance(m, BATCH_NORMS) and m.track_running_stats]
    hooks = [norm.register_forward_pre_hook(observe) for norm in norms]
    if norms:
        plain(*(value.sample(seed=99, batch=4) for value in inputs))
    for hook in hooks:
        hook.remove()
