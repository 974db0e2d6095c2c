"""What the columns of the tables mean, in one line each."""

from __future__ import annotations

from collections.abc import Iterable

MEANINGS = {
    "n": "replicates: runs that differ in the seed or the index of the split alone",
    "test_score": "at the best validation epoch, in %: mean ± sample standard deviation over replicates",
    "test_score %": "at the best validation epoch: mean ± sample standard deviation over replicates",
    "val_score": "the validation score at the best epoch, in %: by it depths are chosen",
    "val_score %": "the validation score at the best epoch, by which depths are chosen",
    "95 % CI": "where the mean of many more replicates would lie; from three replicates on",
    "not ok": "runs that diverged, ran out of memory, failed or were stopped; they are in no mean",
    "Δ baseline": "the difference of the means to the group that is the same but for what the baseline names",
    "p Holm (pairs)": "paired t-test on the same seeds and splits, corrected for the number of tests",
    "d": "effect size: the mean paired difference over its standard deviation; 0.2 small, 0.8 large",
    "reported (Δ)": "the published score, and ours less that",
    "step s": "the median time of a training step: forward, backward, optimiser",
    "peak MiB": "the peak within training: the allocator's on CUDA, elsewhere resident memory, Python's included",
    "act MiB": "what autograd keeps for the backward pass: it grows with depth unless layers are reversible",
    "epochs": "trained until early stopping",
    "deepest": "the greatest depth that was run",
    "there": "the score at that depth",
    "Δ": "that less the score at the best depth",
    "kept for backward": "what autograd keeps for the backward pass of one step",
    "forward": "the peak while the network is evaluated",
    "backward": "the peak while gradients are computed",
    "optimiser": "the peak while weights are updated",
    "optimiser state": "Adam's two moments, for instance",
    "kind": "cuda: the allocator's peak; rss: resident memory",
    "best epoch": "the one with the best validation score (or loss), whose weights are scored",
    "train s": "the time of all epochs, evaluation included",
}  # fmt: skip


def meant(header: Iterable[str]) -> list[tuple[str, str]]:
    """The columns of a table that want a word, with it."""
    return [(name, MEANINGS[name]) for name in header if name in MEANINGS]
