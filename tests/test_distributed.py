"""Two gloo processes are one process with the same global batch."""

import dataclasses
import os
import socket
from pathlib import Path

import pytest
import torch

from graphpose import distributed
from graphpose.checkpoint import load_checkpoint
from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.loader import make_loader
from graphpose.data.transforms import EvalTransform
from graphpose.distributed import FAILURE, SINGLE_PROCESS, Ranks, ranks_of_this_run
from graphpose.errors import GraphposeError
from graphpose.fields.config import DecoderConfig
from graphpose.fields.decode import build_decoder
from graphpose.inference.evaluate import evaluate
from graphpose.nn.config import LossConfig
from tests.training.tiny import tiny_trainer

SCENES = 9  # on two ranks 5 and 4, in batches of 2: the last step has one image, on rank 0 only


def freeze_batch_norms(network: torch.nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
            module.train = lambda mode=True, module=module: module  # type: ignore[method-assign]


def train_and_evaluate(ranks: Ranks, batch_size: int, reduction: str) -> dict:
    loss = LossConfig(regression_reduction=reduction, regression_loss="laplace")
    trainer = tiny_trainer(SCENES, batch_size, ranks, loss, adjacency="soft", optimizer="sgd", ema_decay=0.5)
    freeze_batch_norms(trainer.network)
    losses = [trainer.train_epoch()["loss.total"] for _ in range(2)]
    scenes = DemoDataset(7, seed=2**31, size=64)
    loader = make_loader(scenes, EvalTransform(None), 2, shuffle=False, rank=ranks.rank, world_size=ranks.world_size)
    decoder = build_decoder(trainer.network.spec, DecoderConfig(peak_threshold=1e-3, keypoint_threshold=1e-3))
    ranks.broadcast_state(trainer.averaged)
    evaluation = evaluate(trainer.averaged, decoder, loader, scenes.ground_truth(), ranks=ranks)
    return {
        "losses": losses,
        "metrics": evaluation.metrics,
        "images": [result["image_id"] for result in evaluation.results],
        "scores": [result["score"] for result in evaluation.results],
        "weights": torch.cat([p.detach().flatten() for p in trainer.network.parameters()]),
        "graphs": trainer.network.graph_state(),
    }


def one_rank(rank: int, port: int, folder: str) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }  # fmt: skip
    torch.set_num_threads(1)
    with ranks_of_this_run("cpu") as ranks:
        out = {reduction: train_and_evaluate(ranks, 2, reduction) for reduction in ("sum", "mean")}
        out["agreed"] = ranks.agree(rank), ranks.broadcast(f"of {rank}"), ranks.gather(rank), ranks.total([1.5, rank])
        trainer = tiny_trainer(SCENES, 2, ranks)
        trainer.train_epoch(lambda: trainer.save(f"{folder}/c.pt") if trainer.step == 1 else None)
        out["resumed"] = resumed_equals(trainer, ranks, f"{folder}/c.pt")
        torch.save(out, f"{folder}/{rank}.pt")


def resumed_equals(trainer, ranks: Ranks, path: str) -> bool:
    resumed = tiny_trainer(SCENES, 2, ranks)
    resumed.restore(load_checkpoint(Path(path)))
    resumed.train_epoch()
    pairs = zip(trainer.network.parameters(), resumed.network.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs) and torch.equal(
        trainer.network.graph_state(), resumed.network.graph_state()
    )


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(one_rank, (port, str(folder)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_two_ranks_train_and_score_as_one_process_with_the_same_global_batch(two_ranks, reduction):
    expected = train_and_evaluate(SINGLE_PROCESS, 4, reduction)
    first, second = (out[reduction] for out in two_ranks)
    assert first["losses"] == pytest.approx(expected["losses"], rel=1e-5)
    assert second["losses"] == first["losses"]
    assert torch.equal(first["weights"], second["weights"])
    torch.testing.assert_close(first["weights"], expected["weights"], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_seven_images_on_two_ranks_are_evaluated_once_each_and_score_as_on_one(two_ranks):
    expected = train_and_evaluate(SINGLE_PROCESS, 4, "sum")
    first, second = (out["sum"] for out in two_ranks)
    assert first["images"] == expected["images"]
    assert first["scores"] == pytest.approx(expected["scores"], abs=1e-4)
    assert first["metrics"] == pytest.approx(expected["metrics"], abs=1e-6)
    assert second["metrics"] == {}


@pytest.mark.slow
def test_ranks_agree_broadcast_gather_and_sum(two_ranks):
    assert two_ranks[0]["agreed"] == (1, "of 0", [0, 1], [3.0, 1.0])
    assert two_ranks[1]["agreed"] == (1, "of 0", None, [3.0, 1.0])


@pytest.mark.slow
def test_two_ranks_resume_within_an_epoch_bit_for_bit_each_with_its_own_graphs(two_ranks):
    assert [out["resumed"] for out in two_ranks] == [True, True]


@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
def test_one_gpu_for_all_ranks_is_refused(monkeypatch, cuda, device):
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(GraphposeError, match=f"device='{device}' with 2 ranks: .* set device=cuda"),
        ranks_of_this_run(device),
    ):
        pass


def test_a_process_alone_needs_no_group():
    ranks = dataclasses.replace(SINGLE_PROCESS)
    assert (ranks.agree(2), ranks.gather("x"), ranks.broadcast("y"), ranks.total([2])) == (2, ["x"], "y", [2.0])
    assert "left no word" in ranks.failure_elsewhere()


@pytest.mark.parametrize(("device", "backend"), [("cuda", "nccl"), ("cpu", "gloo")])
@pytest.mark.parametrize(
    "error", [GraphposeError("image 7 is broken"), RuntimeError("out of memory"), KeyboardInterrupt()]
)
def test_a_rank_that_fails_says_so_and_leaves_without_waiting_for_the_others(monkeypatch, cuda, device, backend, error):
    """NCCL's graceful end waits for operations that other ranks have begun, for ten minutes."""
    calls = []
    store = torch.distributed.HashStore()

    class Stub:
        """torch.distributed, whose groups are not there."""

        def __getattr__(self, name):
            if name in ("DistError", "ReduceOp", "ProcessGroup", "Store"):
                return getattr(torch.distributed, name)
            return lambda *arguments, **_: calls.append((name, store.check([FAILURE])))

        distributed_c10d = property(lambda self: self)

        def rendezvous(self, _):
            return iter([(store, 1, 2)])

    monkeypatch.setattr(distributed, "dist", Stub())
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    with pytest.raises(type(error)), ranks_of_this_run(device):
        raise error
    said = isinstance(error, Exception)
    assert calls[-1] == ("_abort_process_group" if backend == "nccl" else "destroy_process_group", said)
    assert len(calls) == 3  # init_process_group, new_group and that
    if said:
        assert store.get(FAILURE).decode() == f"rank 1: {error}"
    calls.clear()
    with ranks_of_this_run(device):
        pass
    assert calls[-1][0] == "destroy_process_group"
