"""Batches on the device, with their targets."""

import pytest
import torch

from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.loader import make_loader
from graphpose.data.transforms import EvalTransform
from graphpose.fields.encode import encode
from graphpose.fields.spec import FieldSpec
from graphpose.skeleton import COCO
from graphpose.training.target_encoder import TargetEncoder

SPEC = FieldSpec(COCO, 8)


def batches(count, pin_memory=False):
    dataset = DemoDataset(3 * count, seed=6, size=96)
    return list(make_loader(dataset, EvalTransform(None), 3, shuffle=False, pin_memory=pin_memory))


@pytest.mark.parametrize("channels_last", [False, True])
def test_images_keep_their_values_and_targets_are_the_encoders(channels_last):
    (batch,) = batches(1)
    images, pif, paf = TargetEncoder(torch.device("cpu"), SPEC, channels_last)(batch)
    assert torch.equal(images, batch.images)
    assert images.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    targets = encode(batch.keypoints, batch.scales, SPEC, (96, 96), batch.ignore)
    torch.testing.assert_close((pif, paf), (targets.pif, targets.paf), rtol=0, atol=0, equal_nan=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_made_ready_beside_work_on_the_device_are_those_of_the_cpu():
    host, device = (TargetEncoder(torch.device(name), SPEC, True) for name in ("cpu", "cuda"))
    busy = torch.randn(2048, 2048, device="cuda")
    for batch in batches(8, pin_memory=True):
        for _ in range(20):
            busy = (busy @ busy).tanh()
        ready = device(batch)
        # read on the stream that works, after memory of the batches before may have been used again
        sums = [tensor.nan_to_num(nan=7.0).double().sum() for tensor in ready]
        expected = [tensor.nan_to_num(nan=7.0).double().sum() for tensor in host(batch)]
        torch.testing.assert_close([s.cpu() for s in sums], expected)
        torch.testing.assert_close(tuple(t.cpu() for t in ready), host(batch), rtol=0, atol=0, equal_nan=True)
