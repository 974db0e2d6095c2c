"""What autograd keeps is the same on every device: `activation_mib` of a CPU is that of a GPU."""

import pytest
import torch
from torch import Tensor

from deepgnn_cli.measure.memory import SavedTensors
from deepgnn_cli.training.trainer import Trainer
from tests.rehearsal import step
from tests.rehearsal.device import rehearsal
from tests.rehearsal.step import Case, prepared

MIB = 2**20


def kept_bytes(trainer: Trainer) -> int:
    """Of a forward pass, on any device: memory kept for the backward pass, each piece once, and none that was there."""
    kept: dict[int, tuple[Tensor, int]] = {}

    def pack(tensor: Tensor) -> Tensor:
        parts = [tensor] if tensor.layout == torch.strided else [tensor.values(), tensor.col_indices()]
        for storage in (part.untyped_storage() for part in parts):
            kept[storage._cdata] = tensor, storage.nbytes()
        return tensor

    (inputs,) = trainer.loader.train(1)
    there = [*trainer.model.parameters(), *trainer.model.buffers(), inputs.y, inputs.train, inputs.x]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = trainer.loss(inputs)
    before = {tensor.untyped_storage()._cdata for tensor in there if isinstance(tensor, Tensor)}
    del loss
    return sum(size for address, (_, size) in kept.items() if address not in before)


@pytest.mark.parametrize(
    "words",
    ["model=gcn", "model=gcn norm=layer residual=res_plus", "model=gcnii", "model=revgcn", "model=deepergcn"],
)
def test_activations_take_on_a_gpu_what_they_take_on_a_cpu(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "NODES", 600)
    monkeypatch.setattr(step, "EDGES", 2400)
    case = Case("activations", words, layers=64, hidden=64)
    on_cpu = prepared(case, on_device=False)
    on_cpu.model.train()
    with SavedTensors() as saved:
        (inputs,) = on_cpu.loader.train(1)
        loss = on_cpu.loss(inputs)
    del loss
    cpu = kept_bytes(on_cpu)
    assert cpu == pytest.approx(saved.mib * MIB, rel=0.02), "what is counted here is what activation_mib says"
    trainer = prepared(case)
    with rehearsal() as notes:
        trainer.train_step(next(trainer.loader.train(1)))  # the softmax by its fast way, as ever after
        gpu = kept_bytes(trainer)
    assert not notes.waits and gpu == pytest.approx(cpu, rel=0.02), (gpu / MIB, cpu / MIB)
