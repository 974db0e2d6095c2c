"""Mixed precision: bf16 autocast trains the same network, up to bf16's rounding."""

import pytest
import torch
from hydra.utils import instantiate

from deepgnn_cli.config.validate import checked
from deepgnn_cli.runs.build import build_model, load_inputs
from deepgnn_cli.training.objectives import objective
from deepgnn_cli.training.trainer import Settings, Trainer

TINY = ["dataset=csbm", "dataset.num_nodes=80", "dataset.average_degree=4", "dataset.num_features=16", "hidden=16"]


def gradient(autocast: str, words: list[str]) -> tuple[torch.Tensor, float]:
    values = checked([*TINY, *words, "drop=none", f"trainer.autocast={autocast}", "device=cpu"]).values
    torch.manual_seed(0)
    loader = load_inputs(values, torch.device("cpu"))
    model = build_model(values, loader)
    optimizer = instantiate(values["optimizer"], _convert_="all")(model)
    trainer = Trainer(model, loader, optimizer, objective("accuracy"), Settings.of(values["trainer"], 0.01))
    loss = trainer.train_step(next(iter(loader.train(1))))
    assert loss.dtype == torch.float32
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters() if p.grad is not None)
    assert trainer.evaluate().isfinite().all()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]), float(loss)


@pytest.mark.parametrize(
    "words",
    [
        ["model=gcnii"],
        ["model=gcnii_star"],
        ["model=revgcn"],
        ["model=revgat"],
        ["model=gat"],
        ["model=deepergcn"],
        ["model=gin"],
        ["model=grand"],
        ["model=dagnn"],
        ["model=gcn", "conv=tag", "residual=dense", "norm=batch"],
        ["model=gcn", "conv=sage", "residual=jumping", "norm=pair"],
        ["model=gcn", "conv=antisymmetric", "residual=res_plus", "norm=graph"],
    ],
    ids=" ".join,
)
def test_bf16_gradients_point_the_way_of_single_precision(words: list[str]) -> None:
    words = [*words, "layers=4"]
    fine, loss = gradient("none", words)
    coarse, coarse_loss = gradient("bf16", words)
    assert not torch.equal(fine, coarse)  # it was really used
    assert coarse_loss == pytest.approx(loss, rel=0.02)
    assert float(torch.cosine_similarity(fine, coarse, dim=0)) > 0.99
