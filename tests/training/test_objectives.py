"""Losses and scores are those of their formulas, of scikit-learn and of OGB's evaluators."""

import numpy as np
import pytest
import torch
from ogb.graphproppred import Evaluator as GraphEvaluator
from ogb.nodeproppred import Evaluator
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    log_loss,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
    roc_auc_score,
)

from deepgnn_cli.rules.tasks import METRICS
from deepgnn_cli.training.objectives import objective

SEEDS = pytest.mark.parametrize("seed", range(20))


def binary(seed, nodes=40, tasks=7):
    """Logits [M, K] of few values, so that many tie and some are 0, and labels of which a third are missing.

    The first task has positives only, the second negatives only, the third no label at all.
    """
    draw = np.random.default_rng(seed)
    logits = draw.integers(-3, 4, (nodes, tasks)) / 2.0
    y = draw.integers(0, 2, (nodes, tasks)).astype(float)
    y[:, 0], y[:, 1] = 1.0, 0.0
    y[draw.random((nodes, tasks)) < 1 / 3] = np.nan
    y[:, 2] = np.nan
    return torch.from_numpy(logits), torch.from_numpy(y)


def classes(seed, nodes=40, count=4):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(nodes, count, generator=draw).double(), torch.randint(count, (nodes,), generator=draw)


@SEEDS
def test_accuracy_is_that_of_sklearn_and_ogb(seed):
    logits, y = classes(seed)
    said = logits.numpy().argmax(axis=1)
    score = float(objective("accuracy").score(logits, y))
    assert score == pytest.approx(accuracy_score(y, said))
    both = {"y_true": y[:, None], "y_pred": torch.from_numpy(said)[:, None]}
    assert score == pytest.approx(Evaluator("ogbn-arxiv").eval(both)["acc"])


@SEEDS
def test_micro_f1_is_that_of_sklearn_over_the_labelled_pairs(seed):
    logits, y = binary(seed)
    labelled = ~y.isnan()
    expected = f1_score(y[labelled], logits[labelled] > 0)
    assert float(objective("micro_f1").score(logits, y)) == pytest.approx(expected)
    whole = y.nan_to_num()
    expected = f1_score(whole, logits > 0, average="micro", zero_division=0)
    assert float(objective("micro_f1").score(logits, whole)) == pytest.approx(expected)


def test_micro_f1_of_nothing_positive_is_zero():
    assert objective("micro_f1").score(-torch.ones(3, 2), torch.zeros(3, 2)) == 0
    assert objective("micro_f1").score(torch.ones(3, 2), torch.full((3, 2), float("nan"))) == 0


@SEEDS
def test_roc_auc_is_that_of_sklearn_and_ogb(seed):
    logits, y = binary(seed)
    tasks = [(y[known, k], logits[known, k]) for k in range(y.size(1)) if (known := ~y[:, k].isnan()).any()]
    expected = np.mean([roc_auc_score(*task) for task in tasks if len(task[0].unique()) == 2])
    score = float(objective("roc_auc").score(logits, y))
    assert score == pytest.approx(expected, abs=1e-12)
    evaluator = Evaluator("ogbn-proteins")
    evaluator.num_tasks = y.size(1)
    assert score == pytest.approx(evaluator.eval({"y_true": y, "y_pred": logits})["rocauc"], abs=1e-12)


def test_roc_auc_without_a_task_of_both_kinds_is_unknown():
    assert objective("roc_auc").score(torch.randn(4, 2), torch.tensor([[0.0, 1.0]] * 4)).isnan()


@pytest.mark.parametrize("metric", ["micro_f1", "roc_auc"])
@SEEDS
def test_binary_cross_entropy_is_the_mean_over_the_labelled_pairs(metric, seed):
    logits, y = binary(seed)
    z, labelled = logits.numpy(), ~np.isnan(y.numpy())
    p = 1 / (1 + np.exp(-z))
    expected = log_loss(y.numpy()[labelled], p[labelled])
    logits.requires_grad_()
    loss = objective(metric).loss(logits, y)
    loss.backward()
    assert loss.item() == pytest.approx(expected)
    gradient = np.where(labelled, (p - np.nan_to_num(y.numpy())) / labelled.sum(), 0.0)
    np.testing.assert_allclose(logits.grad.numpy(), gradient, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@SEEDS
def test_cross_entropy_with_label_smoothing_by_formula(smoothing, seed):
    logits, y = classes(seed)
    z = logits.numpy()
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    target = (1 - smoothing) * np.eye(4)[y.numpy()] + smoothing / 4
    expected = -(target * log_p).sum(axis=1).mean()
    assert float(objective("accuracy", smoothing).loss(logits, y)) == pytest.approx(expected)


@pytest.mark.parametrize("metric", ["accuracy", "micro_f1", "roc_auc"])
def test_an_objective_has_the_name_of_its_metric(metric):
    assert objective(metric).name == metric


def numbers(seed, items=30, targets=4):
    """Predictions and targets [M, K] of which a third are missing; the last target has none."""
    draw = np.random.default_rng(seed)
    y = draw.standard_normal((items, targets))
    y[draw.random((items, targets)) < 1 / 3] = np.nan
    y[:, -1] = np.nan
    return torch.from_numpy(draw.standard_normal((items, targets))), torch.from_numpy(y)


@SEEDS
def test_average_precision_is_that_of_sklearn_and_ogb(seed):
    logits, y = binary(seed)
    tasks = [(y[known, k], logits[known, k]) for k in range(y.size(1)) if (known := ~y[:, k].isnan()).any()]
    expected = np.mean([average_precision_score(*task) for task in tasks if len(task[0].unique()) == 2])
    score = float(objective("average_precision").score(logits, y))
    assert score == pytest.approx(expected, abs=1e-12)
    said = GraphEvaluator("ogbg-molpcba")
    said.num_tasks = y.size(1)
    assert score == pytest.approx(said.eval({"y_true": y, "y_pred": logits})["ap"], abs=1e-12)


@SEEDS
def test_the_roc_auc_of_graphs_is_that_of_ogb(seed):
    logits, y = binary(seed, tasks=4)
    said = GraphEvaluator("ogbg-molhiv")
    said.num_tasks = 4
    expected = said.eval({"y_true": y, "y_pred": logits})["rocauc"]
    assert float(objective("roc_auc").score(logits, y)) == pytest.approx(expected, abs=1e-12)


@SEEDS
def test_macro_f1_is_that_of_sklearn(seed):
    logits, y = classes(seed, nodes=12, count=9)  # some classes are neither there nor said
    expected = f1_score(y, logits.argmax(dim=1), average="macro")
    assert float(objective("macro_f1").score(logits, y)) == pytest.approx(expected)


@SEEDS
def test_the_scores_of_numbers_are_those_of_sklearn_over_the_labelled_pairs(seed):
    said, y = numbers(seed)
    known = ~y.isnan()
    squared = mean_squared_error(y[known], said[known])
    expected = {
        "mae": mean_absolute_error(y[known], said[known]),
        "mse": squared,
        "rmse": squared**0.5,
        "log10_mse": np.log10(squared),
        "r2": np.mean([r2_score(y[known[:, k], k], said[known[:, k], k]) for k in range(3)]),
    }
    for metric, value in expected.items():
        assert float(objective(metric).score(said, y)) == pytest.approx(value), metric


@pytest.mark.parametrize("metric, loss", [("mae", None), ("mae", "mse"), ("mse", None), ("log10_mse", "mae")])
@SEEDS
def test_losses_of_numbers_and_their_gradients_by_formula(metric, loss, seed):
    said, y = numbers(seed)
    known = ~np.isnan(y.numpy())
    missed = np.where(known, said.numpy() - np.nan_to_num(y.numpy()), 0)
    said.requires_grad_()
    found = objective(metric, loss=loss).loss(said, y)
    found.backward()
    absolute = (loss or metric) == "mae"
    assert found.item() == pytest.approx((np.abs(missed) if absolute else missed**2).sum() / known.sum())
    slope = np.sign(missed) if absolute else 2 * missed
    np.testing.assert_allclose(said.grad.numpy(), slope / known.sum(), atol=1e-12)


def test_a_loss_that_is_not_for_the_kind_of_label_is_refused():
    with pytest.raises(ValueError, match="loss='mse' does not train binary; use binary_cross_entropy"):
        objective("roc_auc", loss="mse")
    with pytest.raises(ValueError, match="metric='auc' is not one of"):
        objective("auc")


@pytest.mark.parametrize("metric", METRICS)
def test_the_direction_of_a_metric_is_that_of_its_perfect_prediction(metric):
    """The right answer scores better than a wrong one, whichever way better is."""
    kind = METRICS[metric].kind
    if kind == "classes":
        y, right = torch.arange(4), torch.eye(4)
        wrong = right.roll(1, 0)
    else:
        y = torch.tensor([[0.0], [1.0], [0.0], [1.0]])
        right, wrong = (y - 0.49, 0.49 - y)
    scores = [float(objective(metric).score(each, y)) for each in (right, wrong)]
    assert (scores[0] < scores[1]) == METRICS[metric].lower_is_better
    assert scores[0] != scores[1]
