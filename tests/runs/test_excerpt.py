"""A few batches tell of an epoch what running all of it tells, and no more of them are run."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from deepgnn_cli.config.validate import checked
from deepgnn_cli.data.batches import graphs
from deepgnn_cli.runs import excerpt, forecast
from deepgnn_cli.runs.build import load_inputs, pick_device
from deepgnn_cli.runs.excerpt import Excerpt, epoch_seconds
from deepgnn_cli.training import inputs
from deepgnn_cli.training.inputs import InputLoader
from deepgnn_cli.training.objectives import objective
from deepgnn_cli.training.trainer import Trainer
from tests.training.small import CPU, PLAIN, Linear, problem

GRAPHS = 24
STEP, LOOK, SCORE = 1.0, 0.25, 8.0


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only where a test says so."""
    now = [0.0]
    monkeypatch.setattr(excerpt.time, "perf_counter", lambda: now[0])
    return now


class Slow(Linear):
    """A step takes a second, an evaluation batch a quarter of one."""

    def __init__(self, clock):
        super().__init__(neighbours=False)
        self.clock, self.ran = clock, Counter()

    def forward(self, x, graph):
        self.clock[0] += STEP if self.training else LOOK
        self.ran[self.training] += 1
        return super().forward(x, graph)


def loader(sizes):
    """Graphs of these sizes, two thirds of them trained on, three a batch."""
    part_of = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    draw = torch.Generator().manual_seed(0)
    kind = (torch.arange(len(sizes)) % 6)[part_of]
    graph = replace(
        problem(),
        x=torch.randn(sum(sizes), 5, generator=draw, dtype=torch.float64),
        y=torch.randint(3, (sum(sizes),), generator=draw),
        edge_index=torch.empty(2, 0, dtype=torch.int64),
        train=kind < 4,
        val=kind == 4,
        test=kind == 5,
        part_of=part_of,
    )
    batches = graphs(graph, seed=0, graphs_per_batch=3, nodes_per_batch=None, evaluate_on="device")
    return InputLoader(graph, batches, CPU)


def trainer(clock, inputs, **settings):
    model = Slow(clock)
    task = objective("accuracy")

    def score(logits, y):
        clock[0] += SCORE / 3  # once for each of three sets
        return task.score(logits, y)

    recipe = replace(PLAIN, max_epochs=excerpt.NEVER, **settings)
    return Trainer(model, inputs, torch.optim.SGD(model.parameters(), lr=0.1), replace(task, score=score), recipe)


@pytest.mark.parametrize("most", [2, 3, 99])
@pytest.mark.parametrize("kept", [True, False])
def test_a_few_batches_tell_the_time_of_all(most, kept, clock, monkeypatch):
    monkeypatch.setattr(excerpt, "MOST", most)
    monkeypatch.setattr(inputs, "KEPT_BYTES", inputs.KEPT_BYTES if kept else 10)
    whole = trainer(clock, loader([4] * GRAPHS))
    began = clock[0]
    whole.epoch(1)
    true = clock[0] - began
    some = Excerpt(loader([4] * GRAPHS))
    of_some = trainer(clock, some, eval_every=excerpt.NEVER)
    of_some.evaluate()
    assert true == pytest.approx(16 / 3 // 1 * STEP + STEP + 8 * LOOK + SCORE)
    assert epoch_seconds(of_some, some, 1) == pytest.approx(true)
    assert epoch_seconds(of_some, some, 10) == pytest.approx(6 * STEP + (8 * LOOK + SCORE) / 10)


@pytest.mark.parametrize("kept", [True, False])
def test_so_many_batches_are_run_and_no_more(kept, clock, monkeypatch):
    monkeypatch.setattr(excerpt, "MOST", 3)
    monkeypatch.setattr(inputs, "KEPT_BYTES", inputs.KEPT_BYTES if kept else 10)
    some = Excerpt(loader([4] * GRAPHS))
    assert (some.train_batches, some.evaluation_batches, some.timed) == (6, 8, (3, 3))
    of_some = trainer(clock, some)
    of_some.epoch(1)  # where batches stay prepared, a first evaluation of all of them
    assert of_some.model.ran == {True: 3, False: 8 if kept else 3}
    of_some.model.ran.clear()
    of_some.epoch(2)
    assert of_some.model.ran == {True: 3, False: 3}


def test_the_largest_batch_of_the_counted_epoch_is_ready(monkeypatch):
    monkeypatch.setattr(excerpt, "MOST", 1)
    inputs = loader([1, 2, 3, 4, 5, 6] * 4)
    some = Excerpt(inputs)
    sizes = [batch.x.size(0) for batch in inputs.train(2)]
    assert some.largest.x.size(0) == max(sizes) > min(sizes)


def test_of_a_graph_that_is_one_batch_all_is_run():
    values = checked(["dataset=csbm", "dataset.num_nodes=60", "device=cpu"]).values
    whole = load_inputs(values, pick_device("cpu")[0])
    some = Excerpt(whole)
    assert some.timed == (1, 1) == (some.train_batches, some.evaluation_batches) and some.largest is None
    assert [a.graph.num_nodes for a in some.train(1)] == [60] == [a.graph.num_nodes for a in some.evaluate()]


def test_measuring_a_depth_takes_a_bounded_number_of_steps(monkeypatch):
    words = ["dataset=diameter", "dataset.train_graphs=60", "dataset.val_graphs=20", "dataset.test_graphs=20"]
    words += ["device=cpu", "hidden=8", "batch.graphs_per_batch=1"]
    values = checked(words).values
    some = Excerpt(load_inputs(values, pick_device("cpu")[0]))
    ran, build = Counter(), forecast.build_trainer

    def counted(*given):
        made = build(*given)
        made.model.register_forward_hook(lambda model, *_: ran.update([model.training]))
        return made

    monkeypatch.setattr(forecast, "build_trainer", counted)
    monkeypatch.setattr(excerpt, "MOST", 3)
    sample = forecast.measure(values, some, 2)
    assert some.train_batches == 60 and sample.epoch_seconds > 0
    assert 3 * 3 + 1 <= ran[True] <= 3 * (2 + excerpt._EPOCHS) + 1
    assert ran[False] == 100 + 3 * 3  # a whole evaluation, whose batches stay, and one for memory, two timed
