"""The processes that train one model together, as each of them sees it.

Every rank has its own batches and a copy of the model; torch's DistributedDataParallel averages the gradients, so
all copies stay the same. Rank 0 evaluates, writes the files and decides; `ALONE` is a run of one process, for which
everything here costs nothing.
"""

from __future__ import annotations

import atexit
import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

# A rank that has died is noticed at once, by its closed connections. This is for one that lives and does not answer;
# rank 0 may evaluate a large graph on the CPU for long while the others wait for it.
_PATIENCE = timedelta(minutes=30)


@dataclass(frozen=True)
class Ranks:
    """Rank `rank` of `world`; `local` is its place among those of its machine, which chooses its GPU."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def share(self, module: nn.Module) -> nn.Module:
        """`module` such that a backward pass through it gives every rank the mean of all gradients.

        Buffers are left alone: `average_buffers` sees to them. Every trainable parameter must get a gradient in
        every step, as all of this package's models give theirs.
        """
        if self.world == 1:
            return module
        # torch 2.13 gave the switch another name.
        names = inspect.signature(DistributedDataParallel.__init__).parameters
        switch = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
        off: dict[str, Any] = {switch: False}
        # Views: the averaged gradients are not kept twice.
        return DistributedDataParallel(module, gradient_as_bucket_view=True, **off)

    def average_buffers(self, module: nn.Module) -> None:
        """Give all ranks the mean of their floating-point buffers.

        The running statistics of a batch normalisation then are those of every rank's batches, as they would be if
        one process had seen them all, and not of rank 0's alone.
        """
        buffers = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
        if self.world == 1 or not buffers:
            return
        flat = torch.cat([buffer.detach().double().flatten() for buffer in buffers]).cpu()
        parts = self._total(flat).div_(self.world).split([buffer.numel() for buffer in buffers])
        for buffer, part in zip(buffers, parts, strict=True):
            buffer.copy_(part.view_as(buffer))

    def mean(self, value: float) -> float:
        """The mean of what every rank gives."""
        return value if self.world == 1 else float(self._total(torch.tensor(value, dtype=torch.float64))) / self.world

    def agree(self, value: int) -> int:
        """What rank 0 gives, on every rank."""
        if self.world == 1:
            return value
        answer = torch.tensor(value)
        distributed.broadcast(answer, src=0)
        return int(answer)

    def largest(self, value: int) -> int:
        """The largest of what the ranks give, on every rank."""
        if self.world == 1:
            return value
        answer = torch.tensor(value)
        distributed.all_reduce(answer, op=distributed.ReduceOp.MAX)
        return int(answer)

    def device(self, device: torch.device) -> torch.device:
        """This rank's device: of several GPUs the one with its local number."""
        if self.world == 1 or device.type != "cuda":
            return device
        mine = torch.device("cuda", self.local)
        torch.cuda.set_device(mine)
        return mine

    @staticmethod
    def _total(value: Tensor) -> Tensor:
        distributed.all_reduce(value)
        return value


ALONE = Ranks()


def place(environment: Mapping[str, str] = os.environ) -> Ranks:
    """Which rank this process is, as `torchrun` or `parallel.in_processes` has told it; `ALONE` without them."""
    if "RANK" not in environment or int(environment.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    return Ranks(int(environment["RANK"]), int(environment["WORLD_SIZE"]), int(environment.get("LOCAL_RANK", "0")))


@lru_cache(maxsize=1)
def join(cuda: bool) -> Ranks:
    """Meet the other ranks, once a process; on CUDA, gradients travel by NCCL.

    `DEEPGNN_STORE` names a file to meet at, which nobody else can have taken, unlike a port; without it the address
    is torchrun's.
    """
    ranks = place()
    if ranks.world > 1:
        store = os.environ.get("DEEPGNN_STORE")
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            init_method=f"file://{store}" if store else "env://",
            rank=ranks.rank,
            world_size=ranks.world,
            timeout=_PATIENCE,
        )
        atexit.register(distributed.destroy_process_group)
    return ranks
