"""Training on several processes, started by ``torchrun --nproc-per-node N …``: NCCL on GPUs, gloo on CPUs.

What is shared and what is not:

- Each rank loads its own share of every epoch; ``batch_size`` is per rank.
- The loss of a step is that of the global batch: sums over cells are divided by the cells (or images) of all ranks
  (:meth:`Ranks.share_counts`), and DistributedDataParallel averages the gradients.
- Batch norms that learn see their own rank's batch; the running statistics are those of rank 0. With
  ``sync_batch_norm`` they see the batches of all ranks.
- Dynamic graphs (Eq. 7) are drawn on each rank from a seed derived from the run's seed and the rank.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from graphpose.errors import GraphposeError

T = TypeVar("T")
FAILURE = "graphpose/failure"  # key of the store under which a rank leaves its last words
FAILURE_WAIT = 3.0  # seconds that another rank's last words are waited for


@dataclasses.dataclass(frozen=True)
class Ranks:
    """The processes of a run, as one of them sees them; without torchrun there is one.

    Attributes:
        rank: of this process.
        local_rank: among those on this machine; the index of its GPU.
        world_size: how many there are.
        control: gloo group for small values that live on the CPU.
        store: key-value store that outlives a rank.
    """

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    control: dist.ProcessGroup | None = None
    store: dist.Store | None = None

    @property
    def is_first(self) -> bool:
        """Whether this rank keeps the record and writes the files."""
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        """Whether there are other processes to talk to."""
        return self.world_size > 1

    def agree(self, value: int) -> int:
        """The largest ``value`` of all ranks."""
        if not self.is_distributed:
            return value
        tensor = torch.tensor(value)
        dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self.control)
        return int(tensor)

    def total(self, values: Sequence[float]) -> list[float]:
        """Each of the values summed over all ranks, in float64."""
        tensor = torch.tensor(values, dtype=torch.float64)
        if self.is_distributed:
            dist.all_reduce(tensor, group=self.control)
        return tensor.tolist()

    def gather(self, value: T) -> list[T] | None:
        """The values of all ranks in order, on rank 0; None on the others."""
        if not self.is_distributed:
            return [value]
        values: list[T | None] | None = [None] * self.world_size if self.is_first else None
        dist.gather_object(value, values, group=self.control)
        return cast(list[T] | None, values)

    def broadcast(self, value: T) -> T:
        """Rank 0's value, on all ranks."""
        values = [value]
        if self.is_distributed:
            dist.broadcast_object_list(values, src=0, group=self.control)
        return values[0]

    def share_counts(self, counts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Mean over the ranks of what each loss term is divided by.

        Gradients are averaged over ranks; so a rank's sum divided by this mean gives the loss of the global batch.
        """
        flat = torch.cat([count.reshape(-1).float() for count in counts.values()])
        if self.is_distributed:
            dist.all_reduce(flat)
            flat = flat / self.world_size
        parts = flat.split([count.numel() for count in counts.values()])
        return {name: part.view(count.shape) for (name, count), part in zip(counts.items(), parts, strict=True)}

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network as training calls it; to be made anew when other parameters begin to learn."""
        if not self.is_distributed:
            return network
        device = next(network.parameters()).device
        # 1×1 kernels have the same bytes in both memory formats; only their strides are written differently
        warnings.filterwarnings("ignore", message="(?s).*Grad strides do not match bucket view strides")
        return DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)

    @torch.no_grad()
    def broadcast_state(self, network: nn.Module) -> None:
        """Rank 0's weights and buffers, on all ranks."""
        if self.is_distributed:
            for value in network.state_dict().values():
                dist.broadcast(value, src=0)

    def report_failure(self, message: str) -> None:
        """Leave the reason why this rank ends where the others find it."""
        if self.store is not None:
            with contextlib.suppress(RuntimeError):  # the store's own process may be what died
                self.store.set(FAILURE, f"rank {self.rank}: {message}")

    def failure_elsewhere(self) -> str:
        """Why another rank ended, as far as it could say."""
        if self.store is not None:
            with contextlib.suppress(RuntimeError):
                self.store.wait([FAILURE], datetime.timedelta(seconds=FAILURE_WAIT))
                return self.store.get(FAILURE).decode()
        return f"rank {self.rank} lost another rank, which left no word; torchrun's summary names it"


SINGLE_PROCESS = Ranks()


def connection_lost(error: BaseException) -> bool:
    """Whether an error is what a rank meets in a collective operation when another one has gone."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


@contextlib.contextmanager
def ranks_of_this_run(device: str = "auto") -> Iterator[Ranks]:
    """The ranks that torchrun has started, for as long as the context lasts; :data:`SINGLE_PROCESS` without it.

    Args:
        device: "cpu" keeps the ranks on gloo where there are GPUs.

    Raises:
        GraphposeError: more ranks than GPUs on this machine, or one GPU named for all ranks.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield SINGLE_PROCESS
        return
    local_rank = int(os.environ["LOCAL_RANK"])
    cuda = torch.cuda.is_available() and device != "cpu"
    if cuda:
        if ":" in device:
            raise GraphposeError(
                f"device='{device}' with {world_size} ranks: they would share one GPU; set device=cuda, each rank then "
                "takes its own, or hide the others with CUDA_VISIBLE_DEVICES"
            )
        if local_rank >= torch.cuda.device_count():
            raise GraphposeError(
                f"rank {os.environ['RANK']} is process {local_rank} of this machine, which has "
                f"{torch.cuda.device_count()} GPU(s); start torchrun with --nproc-per-node {torch.cuda.device_count()}"
            )
        torch.cuda.set_device(local_rank)
    store, rank, world_size = next(dist.rendezvous("env://"))
    dist.init_process_group("nccl" if cuda else "gloo", store=store, rank=rank, world_size=world_size)
    ranks = Ranks(rank, local_rank, world_size, dist.new_group(backend="gloo"), store)
    try:
        yield ranks
    except BaseException as error:
        # The others may be in an operation that this rank never joins, and NCCL's graceful end waits for it: so say
        # first what was wrong, then leave without them.
        if isinstance(error, Exception) and not connection_lost(error):
            ranks.report_failure(str(error))
        if cuda:
            dist.distributed_c10d._abort_process_group()
        else:
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()
