"""One step by formula, and what is predicted, evaluated and recorded from it."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from deepgnn_cli.data.batches import full, graphs, parts
from deepgnn_cli.data.pieces import Batch
from deepgnn_cli.training import inputs
from deepgnn_cli.training.inputs import InputLoader
from deepgnn_cli.training.objectives import objective
from tests.conftest import N
from tests.training.small import Linear, Noisy, fit, one_step, problem, sgd, summed, trainer


def loss_and_gradient(graph, weight, nodes, smoothing=0.0):
    """Cross entropy of softmax regression on `x + A x` over `nodes`, and its derivative by the weight, in numpy."""
    x, w = summed(graph.x, graph.edge_index).numpy()[nodes], weight.detach().numpy()
    z = x @ w
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    target = (1 - smoothing) * np.eye(3)[graph.y.numpy()[nodes]] + smoothing / 3
    gradient = x.T @ (np.exp(log_p) - target) / len(x)
    return float(-(target * log_p).sum(axis=1).mean()), torch.from_numpy(gradient)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("clip_norm", [None, 0.05, 1e6])
@pytest.mark.parametrize(("warmup", "number"), [(0, 1), (1, 1), (4, 1), (4, 3), (4, 4), (4, 9)])
def test_a_step_of_an_epoch_by_formula(smoothing, clip_norm, warmup, number):
    graph, model = problem(), Linear()
    before = model.weight.detach().clone()
    loss, gradient = loss_and_gradient(graph, before, graph.train.numpy(), smoothing)
    lr = 0.1 * min(1.0, number / warmup) if warmup else 0.1
    if clip_norm is not None and gradient.norm() > clip_norm:
        gradient = gradient * clip_norm / gradient.norm()
    trained = trainer(graph, model, label_smoothing=smoothing, clip_norm=clip_norm, warmup_epochs=warmup)
    epoch = trained.epoch(number)
    assert epoch.train_loss == pytest.approx(loss, rel=1e-6) and epoch.lr == pytest.approx(lr)
    torch.testing.assert_close(model.weight.detach(), before - lr * gradient, rtol=1e-5, atol=1e-6)


def test_steps_do_not_add_up_their_gradients():
    graph, model = problem(), Linear()
    trained = trainer(graph, model)
    one_step(trained)
    before = model.weight.detach().clone()
    one_step(trained)
    _, gradient = loss_and_gradient(graph, before, graph.train.numpy())
    torch.testing.assert_close(model.weight.detach(), before - 0.1 * gradient, rtol=1e-5, atol=1e-6)


def test_gradients_are_freed_before_the_evaluation():
    model = Linear()
    trained = trainer(problem(), model)
    seen = []
    trained.evaluate = lambda: seen.append(model.weight.grad) or torch.zeros(4)
    trained.epoch(1)
    assert seen == [None]


def test_only_training_nodes_count_for_the_loss():
    graph, model = problem(), Linear()
    other = torch.where(graph.train, graph.y, (graph.y + 1) % 3)
    unlabelled = torch.where(graph.train, graph.y, -1)
    weight = model.weight.detach().clone()
    steps = []
    for y in (graph.y, other, unlabelled):
        model.weight.data.copy_(weight)
        steps.append((one_step(trainer(replace(graph, y=y), model)), model.weight.detach().clone()))
    assert all(torch.equal(a, b) for step in steps[1:] for a, b in zip(steps[0], step, strict=True))


def test_of_a_sampled_batch_only_the_seeds_count():
    graph, model = problem(), Linear()
    seeds = torch.arange(N) < 6

    class Sampled:
        evaluate_on = "device"

        def train(self, epoch):
            yield Batch(graph, torch.arange(N), seeds)

    loss, _ = loss_and_gradient(graph, model.weight, (graph.train & seeds).numpy())
    assert float(one_step(trainer(graph, model, batches=Sampled()))) == pytest.approx(loss, rel=1e-6)


def test_an_epochs_loss_is_the_mean_over_its_batches():
    graph, model = problem(), Linear()
    batches = parts(graph, seed=0, train_parts=3, eval_parts=1, views=1, evaluate_on="device")
    epoch = trainer(graph, model, sgd(model, 0.0), batches, lr=0.0).epoch(2)
    losses = []
    for batch in batches.train(2):
        losses.append(loss_and_gradient(batch.graph, model.weight, batch.graph.train.numpy())[0])
    assert len(losses) == 3 and epoch.train_loss == pytest.approx(np.mean(losses), rel=1e-6)


def test_prediction_over_parts_equals_the_full_batch():
    graph, model = problem(), Linear(neighbours=False)
    for views in (1, 3):
        batches = parts(graph, seed=0, train_parts=2, eval_parts=4, views=views, evaluate_on="device")
        logits = trainer(graph, model, batches=batches).predict()
        torch.testing.assert_close(logits.double(), graph.x @ model.weight.detach(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("evaluate_on", ["device", "cpu"])
def test_prediction_over_views_is_the_mean_of_each_partitions(evaluate_on):
    graph, model = problem(), Linear()
    batches = parts(graph, seed=0, train_parts=2, eval_parts=3, views=4, evaluate_on=evaluate_on)
    total = torch.zeros(N, 3, dtype=torch.float64)
    for batch in batches.evaluate():
        inside = torch.isin(graph.edge_index, batch.nodes).all(dim=0)
        total[batch.nodes] += summed(graph.x, graph.edge_index[:, inside])[batch.nodes] @ model.weight.detach()
    logits = trainer(graph, model, batches=batches).predict()
    torch.testing.assert_close(logits.double(), total / 4, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("eval_parts", [1, 3])
def test_evaluation_batches_are_prepared_once_where_they_fit(eval_parts, monkeypatch):
    graph, model = problem(), Linear()
    batches = parts(graph, seed=0, train_parts=2, eval_parts=eval_parts, views=1, evaluate_on="device")
    kept, anew = (trainer(graph, model, batches=batches) for _ in range(2))
    expected = kept.predict()
    assert all(a is b for a, b in zip(kept.loader.evaluate(), kept.loader.evaluate(), strict=True))
    monkeypatch.setattr(inputs, "KEPT_BYTES", 10)
    assert torch.equal(anew.predict(), expected) and torch.equal(kept.predict(), expected)
    assert not any(a is b for a, b in zip(anew.loader.evaluate(), anew.loader.evaluate(), strict=True))


def test_prediction_over_whole_graphs_equals_the_full_batch():
    # Three rings of four nodes, their nodes mixed.
    ends = torch.tensor([(n, (n + 3) % N) for n in range(N)]).t()
    ends = torch.cat([ends, ends.flip(0)], dim=1)
    graph, model = problem(edge_index=ends, part_of=torch.arange(N) % 3), Linear()
    graph = replace(graph, train=graph.part_of == 0, val=graph.part_of == 1, test=graph.part_of == 2)
    for size in (1, 2, 3):
        batches = graphs(graph, seed=0, graphs_per_batch=size, nodes_per_batch=None, evaluate_on="device")
        logits = trainer(graph, model, batches=batches).predict()
        torch.testing.assert_close(logits.double(), summed(graph.x, ends) @ model.weight.detach(), rtol=1e-6, atol=1e-6)


def test_an_evaluation_on_the_cpu_is_there_wherever_training_is():
    graph, meta = problem(), torch.device("meta")
    for where, expected in (("cpu", "cpu"), ("device", "meta")):
        loader = InputLoader(graph, full(graph, seed=0, evaluate_on=where), meta)
        assert loader.evaluates_on.type == loader.targets.y[1].device.type == expected


def test_the_evaluation_by_formula():
    thirds = torch.arange(N)
    graph = problem(train=thirds < 5, val=(thirds >= 5) & (thirds < 9), test=thirds >= 9)
    model = Linear()
    z = summed(graph.x, graph.edge_index) @ model.weight.detach()
    right = (z.argmax(dim=1) == graph.y).double()
    scores = [float(right[mask].mean()) for mask in (graph.train, graph.val, graph.test)]
    assert len(set(scores)) == 3  # or a mix-up would go unseen
    loss, _ = loss_and_gradient(graph, model.weight, graph.val.numpy(), 0.2)
    trained = trainer(graph, model, sgd(model, 0.0), label_smoothing=0.2, lr=0.0)
    epoch = trained.epoch(1)
    assert [epoch.train_score, epoch.val_score, epoch.test_score] == pytest.approx(scores)
    assert epoch.val_loss == pytest.approx(loss, rel=1e-6)


def test_a_model_trains_with_dropout_and_predicts_without():
    model, modes = Noisy(), []
    model.register_forward_hook(lambda module, inputs, output: modes.append(module.training))
    trained = trainer(problem(), model)
    trained.epoch(1)
    trained.epoch(2)
    assert modes == [True, False, True, False]
    assert torch.equal(trained.predict(), trained.predict())


@pytest.mark.parametrize(("autocast", "dtype"), [("none", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_reaches_the_steps_and_the_predictions_or_neither(autocast, dtype):
    seen = []
    model = Linear(neighbours=False).float()
    model.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    graph = problem()
    trained = trainer(replace(graph, x=graph.x.float()), model, autocast=autocast)
    loss, logits = one_step(trained), trained.predict()
    assert seen == [dtype, dtype] and loss.dtype == logits.dtype == torch.float32


def test_a_models_own_loss_takes_the_tasks_place():
    class Own(Linear):
        def loss(self, x, graph, y, train, task):
            return 2 * task(self(x, graph)[train], y)

    graph, model = problem(), Own()
    loss, _ = loss_and_gradient(graph, model.weight, graph.train.numpy())
    assert float(one_step(trainer(graph, model))) == pytest.approx(2 * loss)


def test_only_the_first_step_is_the_probes_and_it_is_not_timed():
    class Probe:
        used = False
        names: list[str] = []

        @contextmanager
        def phase(self, name):
            self.names.append(name)
            yield

    graph, model = problem(), Linear()
    trained = trainer(graph, model)
    trained.probe = Probe()
    first, second = trained.epoch(1), trained.epoch(2)
    assert Probe.names == ["forward", "backward", "optimiser"]
    assert first.step_seconds is None and second.step_seconds > 0


def test_multi_label_nodes_are_scored_over_their_labels():
    graph = problem()
    y = torch.eye(3)[graph.y]
    y[::4] = float("nan")
    graph, model = replace(graph, y=y, metric="micro_f1"), Linear()
    z = summed(graph.x, graph.edge_index) @ model.weight.detach()
    epoch = trainer(graph, model, sgd(model, 0.0), lr=0.0).epoch(1)
    task = objective("micro_f1")
    assert epoch.val_score == pytest.approx(float(task.score(z[graph.val], y[graph.val])))
    known = ~y[graph.val].isnan()
    p = z[graph.val].sigmoid()[known].clamp(1e-12, 1 - 1e-12)
    label = y[graph.val][known].double()
    assert epoch.val_loss == pytest.approx(float(-(label * p.log() + (1 - label) * (1 - p).log()).mean()), rel=1e-5)
    assert fit(trainer(graph, model))[0].epoch == 5
