"""Every optimiser's steps by its paper's formula, on two groups of parameters with decays of their own."""

import pytest
import torch
from torch import nn

from deepgnn_cli.training import optimizers

LR, DECAY, CONV_DECAY = 0.03, 0.2, 0.7


class Model(nn.Module):
    """A stack of convolutions, a dense layer, and a parameter that is not trained."""

    def __init__(self):
        super().__init__()
        self.stack = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 2)])
        self.dense = nn.Linear(2, 2)
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.double()


def adam(betas=(0.8, 0.95), eps=1e-3, decoupled=False):
    def step(p, g, decay, t, state):
        g = g if decoupled else g + decay * p
        p = p * (1 - LR * decay) if decoupled else p
        m = state["m"] = betas[0] * state.get("m", 0) + (1 - betas[0]) * g
        v = state["v"] = betas[1] * state.get("v", 0) + (1 - betas[1]) * g**2
        return p - LR * (m / (1 - betas[0] ** t)) / ((v / (1 - betas[1] ** t)).sqrt() + eps)

    return step


def rmsprop(rho=0.7, momentum=0.4):
    def step(p, g, decay, t, state):
        g = g + decay * p
        v = state["v"] = rho * state.get("v", 0) + (1 - rho) * g**2
        b = state["b"] = momentum * state.get("b", 0) + g / (v.sqrt() + 1e-8)
        return p - LR * b

    return step


def sgd(momentum=0.6):
    def step(p, g, decay, t, state):
        b = state["b"] = momentum * state.get("b", 0) + g + decay * p
        return p - LR * b

    return step


CASES = {
    "adam": ({"betas": [0.8, 0.95], "eps": 1e-3}, adam()),
    "adamw": ({"betas": [0.8, 0.95], "eps": 1e-3}, adam(decoupled=True)),
    "rmsprop": ({"rho": 0.7, "momentum": 0.4}, rmsprop()),
    "sgd": ({"momentum": 0.6}, sgd()),
}


@pytest.mark.parametrize("conv_decay", [None, CONV_DECAY, 0.0])
@pytest.mark.parametrize("name", CASES)
def test_three_steps_by_formula(name, conv_decay):
    arguments, step = CASES[name]
    model = Model()
    optimizer = getattr(optimizers, name)(model, lr=LR, weight_decay=DECAY, conv_weight_decay=conv_decay, **arguments)
    expected, states = {key: p.clone() for key, p in model.named_parameters()}, {}
    for t in range(1, 4):
        for key, p in model.named_parameters():
            if not p.requires_grad:
                continue
            p.grad = torch.randn_like(p)
            decay = CONV_DECAY if key.startswith("stack.") and conv_decay else DECAY
            decay = 0.0 if key.startswith("stack.") and conv_decay == 0.0 else decay
            expected[key] = step(expected[key], p.grad, decay, t, states.setdefault(key, {}))
        optimizer.step()
    for key, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), expected[key].detach(), rtol=1e-12, atol=1e-12)


def test_groups_hold_every_trained_parameter_once():
    model = Model()
    inside, outside = optimizers.groups(model, DECAY, CONV_DECAY)
    assert {id(p) for p in inside["params"]} == {id(p) for p in model.stack.parameters()}
    assert {id(p) for p in outside["params"]} == {id(p) for p in model.dense.parameters()}
    assert (inside["weight_decay"], outside["weight_decay"]) == (CONV_DECAY, DECAY)


def test_a_model_without_a_stack_has_one_group():
    (group,) = optimizers.groups(nn.Linear(2, 2), DECAY, CONV_DECAY)
    assert len(group["params"]) == 2 and group["weight_decay"] == DECAY
