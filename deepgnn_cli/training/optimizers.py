"""Optimisers over two groups of parameters: the stack of convolutions, and the dense layers around it.

GCNII decays the two differently; one uniform decay loses two points on Cora.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Len
from torch import nn
from torch.optim import Optimizer

from deepgnn_cli.rules.types import NonNegative, Positive, Rate

Betas = Annotated[list[Rate], Len(2, 2)]


def groups(
    model: nn.Module, weight_decay: NonNegative, conv_weight_decay: NonNegative | None
) -> list[dict[str, object]]:
    """Parameter groups: those of `model.stack` (if it has one) with the conv decay, the others with the dense one."""
    stack = getattr(model, "stack", None)
    inside = {id(p) for p in stack.parameters()} if isinstance(stack, nn.Module) else set()
    decay = weight_decay if conv_weight_decay is None else conv_weight_decay
    wanted = [p for p in model.parameters() if p.requires_grad]
    split = [
        {"params": [p for p in wanted if id(p) in inside], "weight_decay": decay},
        {"params": [p for p in wanted if id(p) not in inside], "weight_decay": weight_decay},
    ]
    return [group for group in split if group["params"]]


def adam(
    model: nn.Module,
    *,
    lr: Positive,
    weight_decay: NonNegative,
    conv_weight_decay: NonNegative | None,
    betas: Betas,
    eps: Positive,
) -> Optimizer:
    """Adam (arXiv:1412.6980) with L2 weight decay, fused: one kernel for all the tensors of a group."""
    split = groups(model, weight_decay, conv_weight_decay)
    return torch.optim.Adam(split, lr=lr, betas=(betas[0], betas[1]), eps=eps, fused=True)


def adamw(
    model: nn.Module,
    *,
    lr: Positive,
    weight_decay: NonNegative,
    conv_weight_decay: NonNegative | None,
    betas: Betas,
    eps: Positive,
) -> Optimizer:
    """AdamW (arXiv:1711.05101): decoupled weight decay."""
    split = groups(model, weight_decay, conv_weight_decay)
    return torch.optim.AdamW(split, lr=lr, betas=(betas[0], betas[1]), eps=eps, fused=True)


def rmsprop(
    model: nn.Module,
    *,
    lr: Positive,
    weight_decay: NonNegative,
    conv_weight_decay: NonNegative | None,
    rho: Rate,
    momentum: Rate,
) -> Optimizer:
    """RMSprop with smoothing constant `rho`, as RevGAT's recipe asks."""
    split = groups(model, weight_decay, conv_weight_decay)
    return torch.optim.RMSprop(split, lr=lr, alpha=rho, momentum=momentum)


def sgd(
    model: nn.Module, *, lr: Positive, weight_decay: NonNegative, conv_weight_decay: NonNegative | None, momentum: Rate
) -> Optimizer:
    """Stochastic gradient descent with momentum."""
    return torch.optim.SGD(groups(model, weight_decay, conv_weight_decay), lr=lr, momentum=momentum)
