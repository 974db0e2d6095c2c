"""Losses and scores are those of their formulas, of scikit-learn and of OGB's evaluators."""

import numpy as np
import pytest
import torch
from ogb.nodeproppred import Evaluator
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score

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
