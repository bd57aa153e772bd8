"""Training: steps, epochs, restoring, and batches that must not train."""

import contextlib
import dataclasses

import pytest
import torch

from graphpose.checkpoint import load_checkpoint
from graphpose.data.batch import Batch
from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.loader import make_loader
from graphpose.data.transforms import EvalTransform
from graphpose.distributed import Ranks
from graphpose.errors import GraphposeError
from graphpose.nn.config import LossConfig, PoseNetworkConfig
from graphpose.nn.losses import PoseLoss
from graphpose.nn.network import PoseNetwork
from graphpose.training.config import TrainConfig
from graphpose.training.trainer import Trainer
from tests.training.tiny import CONFIG, states_equal, tiny_trainer

QUICK = dataclasses.replace(CONFIG, epochs=2, schedule="constant", warmup_epochs=0, frozen_backbone_epochs=0)


def make_trainer(config: TrainConfig = QUICK, adjacency: str = "dynamic", scenes: int = 6) -> Trainer:
    torch.manual_seed(3)
    network = PoseNetwork(PoseNetworkConfig(backbone="regnetx_002", stem_pool=True, adjacency=adjacency))
    network.seed_graphs(3)
    loader = make_loader(DemoDataset(scenes, seed=4, size=96), EvalTransform(None), 3, shuffle=True, seed=5)
    return Trainer(network, PoseLoss(), loader, config)


@pytest.mark.slow
@pytest.mark.parametrize("adjacency", ["none", "dynamic"])
def test_the_loss_falls_on_a_few_scenes(adjacency):
    trainer = make_trainer(dataclasses.replace(QUICK, epochs=15), adjacency)
    losses = [trainer.train_epoch()["loss.total"] for _ in range(15)]
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.slow
def test_a_restored_trainer_continues_bit_for_bit(tmp_path):
    straight = make_trainer()
    straight.train_epoch()
    straight.save(tmp_path / "c.pt")
    straight.train_epoch()
    resumed = make_trainer()
    resumed.restore(load_checkpoint(tmp_path / "c.pt"))
    assert resumed.epoch == 1
    resumed.train_epoch()
    assert states_equal(straight.network, resumed.network)
    assert states_equal(straight.averaged, resumed.averaged)


def test_a_checkpoint_of_weights_alone_cannot_be_trained_on():
    with pytest.raises(GraphposeError, match="weights only"):
        make_trainer().restore({"training": {}})


def test_a_loss_that_is_not_finite_stops_names_the_images_and_changes_nothing():
    trainer = make_trainer()
    trainer._set_modes()
    batch = next(iter(trainer.loader))
    before = [p.clone() for p in trainer.network.parameters()]
    broken = dataclasses.replace(batch, images=batch.images.index_fill(0, torch.tensor([0]), float("nan")))
    with pytest.raises(GraphposeError, match=rf"not finite .* on image ids \[{', '.join(map(str, batch.image_ids))}\]"):
        trainer.train_step(broken)
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.network.parameters(), strict=True))


def test_a_batch_without_a_person_trains_with_finite_gradients():
    trainer = make_trainer()
    trainer._set_modes()
    batch = next(iter(trainer.loader))
    nobody = dataclasses.replace(batch, keypoints=batch.keypoints[:, :0], scales=batch.scales[:, :0])
    parts = trainer.train_step(nobody)
    assert parts["pif_offset"] == 0
    assert all(torch.isfinite(p).all() for p in trainer.network.parameters())


@pytest.mark.slow
def test_the_backbone_rests_in_the_first_epoch_and_learns_in_the_second():
    trainer = make_trainer(dataclasses.replace(QUICK, frozen_backbone_epochs=1))
    weights = [p.clone() for p in trainer.network.backbone.parameters()]
    statistics = [b.clone() for b in trainer.network.backbone.buffers()]
    trainer.train_epoch()
    assert all(torch.equal(a, b) for a, b in zip(weights, trainer.network.backbone.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(statistics, trainer.network.backbone.buffers(), strict=True))
    trainer.train_epoch()
    assert not all(torch.equal(a, b) for a, b in zip(weights, trainer.network.backbone.parameters(), strict=True))


@pytest.mark.slow
def test_stages_up_to_the_frozen_stride_rest_in_every_epoch():
    trainer = make_trainer(dataclasses.replace(QUICK, frozen_stride=8))
    before = {name: tensor.clone() for name, tensor in trainer.network.backbone.state_dict().items()}
    for _ in range(2):
        trainer.train_epoch()
    changed = {
        name.split(".")[2]  # features.model.s3.…
        for name, tensor in trainer.network.backbone.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    assert changed == {"s3"}


@pytest.mark.slow
def test_relation_weights_change_in_training():
    trainer = make_trainer()
    before = {n: p.clone() for n, p in trainer.network.named_parameters() if n.endswith("W_d")}
    assert before
    trainer.train_epoch()
    trainer.train_epoch()
    after = dict(trainer.network.named_parameters())
    assert all(not torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.slow
def test_unreadable_images_are_counted_and_the_epoch_goes_on():
    class Damaged(DemoDataset):
        def __getitem__(self, index):
            if index == 2:
                raise GraphposeError("image 'scene_000003.png' is truncated")
            return super().__getitem__(index)

    trainer = make_trainer()
    trainer.loader = make_loader(Damaged(6, seed=4, size=96), EvalTransform(None), 3, shuffle=False)
    assert trainer.train_epoch()["unreadable"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_an_epoch_resumed_at_any_step_ends_in_the_same_bits(tmp_path, step):
    straight = tiny_trainer()
    straight.train_epoch()
    expected = straight.train_epoch()
    stopped = tiny_trainer()
    stopped.train_epoch()

    def save_once() -> None:
        if stopped.step == step:
            stopped.save(tmp_path / "c.pt")

    stopped.train_epoch(save_once)
    resumed = tiny_trainer()
    resumed.restore(load_checkpoint(tmp_path / "c.pt"))
    assert (resumed.epoch, resumed.step) == (1, step)
    found = resumed.train_epoch()
    assert {n: v for n, v in found.items() if n.startswith("loss.")} == {
        n: v for n, v in expected.items() if n.startswith("loss.")
    }
    assert states_equal(straight.network, resumed.network)
    assert states_equal(straight.averaged, resumed.averaged)
    assert len(resumed.history) == 2


@pytest.mark.slow
def test_another_number_of_steps_goes_on_from_the_same_place(tmp_path, caplog):
    stopped = tiny_trainer()  # 4 steps an epoch

    def save_once() -> None:
        if stopped.step == 2:
            stopped.save(tmp_path / "c.pt")

    stopped.train_epoch(save_once)
    resumed = tiny_trainer(batch_size=1)  # 8 steps
    resumed.restore(load_checkpoint(tmp_path / "c.pt"))
    assert resumed.step == 4
    assert resumed.schedule.last_epoch == 4
    assert "not bit for bit" in caplog.text


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    trainer = tiny_trainer()
    next(trainer.network.parameters()).data[0] = float("inf")
    with pytest.raises(GraphposeError, match="weights are not finite"):
        trainer.save(tmp_path / "c.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_image_that_breaks_in_the_third_epoch_is_left_out_and_counted():
    class Breaks(DemoDataset):
        def __getitem__(self, index):
            if index == 5 and trainer.epoch == 2:
                raise GraphposeError("image 'scene_000006.png' is truncated")
            return super().__getitem__(index)

    trainer = tiny_trainer(dataset=Breaks(8, seed=4, size=64))
    assert [trainer.train_epoch()["unreadable"] for _ in range(3)] == [0, 0, 1]


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("confidence", ["mean", "sum_of_means"])
def test_a_batch_in_parts_has_the_loss_and_gradients_of_the_whole(reduction, confidence):
    loss = LossConfig(regression_reduction=reduction, confidence_reduction=confidence)
    gradients, losses = [], []
    for parts in (1, 2, 3):
        trainer = tiny_trainer(scenes=4, batch_size=4, loss=loss, adjacency="soft", accumulate=parts, strides=(8, 16))
        trainer.network.eval()  # batch norms see a part at a time in training
        batch = next(iter(trainer.loader))
        losses.append({name: float(value) for name, value in trainer.train_step(batch).items()})
        gradients.append(torch.cat([p.grad.flatten() for p in trainer.network.parameters() if p.grad is not None]))
    for other in (1, 2):
        assert losses[other] == pytest.approx(losses[0], rel=1e-5)
        torch.testing.assert_close(gradients[other], gradients[0], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_last_epoch_and_every_second_one_are_evaluated_once_and_the_best_is_known():
    trainer = tiny_trainer(scenes=2, epochs=3, evaluate_every=2)
    logged = []
    trainer.log = lambda *figure: logged.append(figure)
    assert not trainer.evaluation_due  # nothing is trained
    found = []
    for AP in (0.1, 0.4, 0.3):
        trainer.train_epoch()
        found.append(trainer.evaluation_due)
        if trainer.evaluation_due:
            trainer.record_evaluation({"AP": AP})
            found.append(trainer.is_best("AP"))
        assert not trainer.evaluation_due
    assert found == [False, True, True, True, False]
    assert trainer.finished
    assert [figure for figure in logged if figure[0] == "val.AP"] == [("val.AP", 0.4, 2), ("val.AP", 0.3, 3)]
    assert [figures.get("val.AP") for figures in trainer.history] == [None, 0.4, 0.3]


class Both(Ranks):
    """Two ranks, of which the other has the same images: counts are theirs, and nothing is exchanged."""

    def wrap(self, network):
        network.no_sync = contextlib.nullcontext
        return network

    def share_counts(self, counts):
        return {name: count.float() for name, count in counts.items()}


@pytest.mark.parametrize("images", [8, 7, 6, 5, 1, 0])
def test_ranks_make_as_many_passes_whatever_images_they_have(images):
    """With synchronised batch norms every pass is a collective operation: one pass less, and NCCL waits for ever."""
    passes = []
    trainer = tiny_trainer(scenes=16, batch_size=8, ranks=Both(world_size=2), adjacency="soft", accumulate=4)
    trainer._set_modes()
    trainer.network.eval()  # batch norms see a part at a time in training
    trainer.network.register_forward_pre_hook(lambda _, arguments: passes.append(len(arguments[0])))
    batch = next(iter(trainer.loader))
    names = ("images", "keypoints", "scales", "ignore", "to_original", "original_sizes", "image_ids", "file_names")
    batch = (
        dataclasses.replace(batch, **{name: getattr(batch, name)[:images] for name in names})
        if images
        else Batch.empty()
    )
    parts = trainer.train_step(batch)
    assert len(passes) == 4
    assert all(torch.isfinite(p.grad).all() for p in trainer.network.parameters() if p.grad is not None)
    if images:
        alone = tiny_trainer(scenes=8, batch_size=8, adjacency="soft")
        alone._set_modes()
        alone.network.eval()
        expected = {name: float(value) for name, value in alone.train_step(batch).items()}
        assert {name: float(value) for name, value in parts.items()} == pytest.approx(expected, rel=1e-4)
    else:
        assert float(parts["total"]) == 0
