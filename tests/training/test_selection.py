"""Which epoch is best and when training ends, on curves made by hand."""

import pytest
import torch

from deepgnn_cli.training.errors import Diverged
from deepgnn_cli.training.objectives import objective
from tests.training.small import Linear, fit, problem, trainer

NAN = float("nan")


def run(curve, metric="accuracy", **settings):
    """Train along a curve of validation values; the weights are the epoch's number, the test score a tenth of it."""
    model = Linear()
    model.weight.data.zero_()
    trained = trainer(problem(), model, task=objective(metric), max_epochs=len(curve), **settings)

    def step(inputs):
        model.weight.data.add_(1)
        return torch.tensor(1.0)

    def evaluate():
        number = int(model.weight[0, 0])
        value = curve[number - 1]
        return torch.tensor([value, 0.0, value, number / 10], dtype=torch.float64)

    trained.step, trained.evaluate = step, evaluate
    progress, weights = fit(trained)
    best = progress.best
    assert (best is None) == (not weights)
    assert best is None or (weights["weight"] == best.epoch).all() and best.test_score == best.epoch / 10
    return progress


CURVES = [
    # curve, settings, best epoch, last epoch
    ([3, 2, 1, 2, 3], {"select": "val_loss"}, 3, 5),
    ([3, 2, 1, 2, 3], {"select": "val_score"}, 1, 5),
    ([1, 2, 3, 2, 1], {"select": "val_score"}, 3, 5),
    # a tie is not better: the first of equals stays, and does not renew the patience
    ([3, 2, 2, 2, 2, 2, 2], {"patience": 3}, 2, 5),
    ([0.5, 0.7, 0.7, 0.7, 0.7, 0.9], {"patience": 3, "select": "val_score"}, 2, 5),
    # better in the last epoch of patience: it begins anew
    ([3, 2, 3, 3, 1, 3, 3, 3, 3], {"patience": 3}, 5, 8),
    ([3, 2, 1, 2, 3], {"patience": None}, 3, 5),
    # no number is no epoch's best, and counts as one without a better one
    ([NAN, 2, NAN, 3], {}, 2, 4),
    ([2, NAN, NAN, NAN, 1], {"patience": 3}, 1, 4),
    ([NAN, NAN, NAN], {"patience": 1}, None, 3),
    ([NAN, 0.0, 0.0, 0.0], {"select": "val_score", "patience": 2}, 2, 4),
    # evaluated every second epoch and in the last: the others cannot be best
    ([1, 3, 1, 2, 1, 4, 1], {"eval_every": 2}, 7, 7),
    ([0, 3, 0, 2, 0, 4, 3], {"eval_every": 2}, 4, 7),
    ([0, 3, 0, 4, 0, 4, 0, 1], {"eval_every": 2, "patience": 3}, 2, 5),
    ([5, 5, 5, 5, 5], {"eval_every": 9, "patience": 1}, 5, 5),
    # an error is better the lower it is, and stops the training when it rises
    ([3, 2, 1, 2, 3], {"select": "val_score", "metric": "mae"}, 3, 5),
    ([3, 2, 1, 2, 3, 0], {"select": "val_score", "metric": "log10_mse", "patience": 2}, 3, 5),
    ([1, 2, 3, 2, 1], {"select": "val_score", "metric": "r2"}, 3, 5),
    ([3, 2, 1, 2, 3], {"select": "val_loss", "metric": "r2"}, 3, 5),
]


@pytest.mark.parametrize(("curve", "settings", "best", "last"), CURVES)
def test_best_and_last_epoch(curve, settings, best, last):
    progress = run([float(value) for value in curve], **settings)
    assert (progress.best and progress.best.epoch) == best
    assert [epoch.epoch for epoch in progress.epochs] == list(range(1, last + 1))


def test_an_epoch_without_evaluation_has_no_scores():
    progress = run([1.0, 2.0, 3.0, 4.0, 5.0], eval_every=2)
    known = [epoch.epoch for epoch in progress.epochs if epoch.val_loss is not None]
    assert known == [2, 4, 5]
    assert all((e.val_score is None) == (e.val_loss is None) == (e.test_score is None) for e in progress.epochs)


@pytest.mark.parametrize("loss", [NAN, float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_ends_the_training_before_anything_is_kept(loss):
    trained = trainer(problem(), Linear())
    losses = iter([1.0, loss])
    trained.step = lambda inputs: torch.tensor(next(losses))
    heard = []
    with pytest.raises(Diverged, match="in epoch 2; try a smaller optimizer.lr"):
        fit(trained, after_epoch=lambda progress: heard.append((progress.epoch, progress.best.epoch)))
    assert heard == [(1, 1)]
