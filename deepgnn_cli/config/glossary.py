"""What keys mean that many options share: told where neither a comment in yaml nor a builder's docstring says it."""

from __future__ import annotations

_MEANINGS = {
    # data sets
    "val_fraction": "share of the nodes to validate on, of a random split by fractions",
    "val_per_class": "so many validation nodes a class, where train_per_class is set",
    # convolutions
    "aggregation": "how the neighbours are put together",
    "attention_dropout": "share of the attention coefficients dropped in training",
    "beta": "a learned gate weighs the node itself against its neighbours",
    "bias": "add a learned vector",
    "epsilon": "the size of a step",
    "gamma": "damping: how fast features fall back to zero",
    "heads": "attention heads; together they fill the hidden channels where those divide by them",
    "hops": "the highest power of the adjacency",
    "iterations": "steps with the same weights",
    "mlp_layers": "linear layers of the MLP",
    "model.conv.act": "the activation of a step",
    "model.conv.eps": "where ε starts: how much more the node itself counts than a neighbour",
    "negative_slope": "the slope below zero of the attention scores' LeakyReLU",
    "normalize": "project each node's result onto the unit sphere",
    "share_weights": "one matrix for both ends of an edge",
    "theta": "identity mapping: layer l mixes in log(theta / l + 1) of its weights; null: the weights alone",
    "train_eps": "learn ε",
    "variant": "shared: GCNII; official, paper: GCNII* as its code or its paper has it",
    # training
    "betas": "how much of the past the running means of the gradient and of its square keep",
    "eps": "added to the root of the squared gradients' mean, against division by zero",
    "label_smoothing": "share of each label spread over all classes",
    "lr": "learning rate",
    "max_epochs": "train no longer than this",
    "momentum": "share of the last step that is taken again",
    "rho": "how much of the past the running mean of squared gradients keeps",
    "weight_decay": "strength of the pull of weights towards zero",
}


def shared_meaning(name: str) -> str:
    """The meaning of a key by its full name, or by the last part of it; empty if there is none."""
    return _MEANINGS.get(name) or _MEANINGS.get(name.rpartition(".")[2], "")
