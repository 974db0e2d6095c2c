"""How a batch gets to its device."""

import pytest
import torch
from torch import Tensor

from deepgnn_cli.training import inputs

GPU = torch.device("cuda:0")


@pytest.mark.parametrize("pinned", [True, False])
def test_an_upload_does_not_wait_and_what_passes_through_is_pinned(
    pinned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy to a GPU returns at once only from pinned memory, which is never given back: not for what stays."""
    did: list[object] = []

    def to(tensor: Tensor, device: torch.device, non_blocking: bool = False) -> Tensor:
        did.append((device, non_blocking))
        return tensor

    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: did.append("pinned") or tensor)
    monkeypatch.setattr(Tensor, "to", to)
    inputs._upload(torch.ones(3), GPU, pinned)
    assert did == (["pinned"] if pinned else []) + [(GPU, True)]
    did.clear()
    inputs._upload(torch.ones(3), torch.device("cpu"), pinned)
    assert "pinned" not in did
