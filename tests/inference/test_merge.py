"""Parts of a list, side by side and joined: equal to one process, and what is missing is named."""

import io
import json
import subprocess
import sys

import cv2
import pytest
import torch

from graphpose.checkpoint import save_checkpoint
from graphpose.cli import main
from graphpose.data.demo.dataset import DemoDataset
from graphpose.errors import GraphposeError
from graphpose.inference.job import predict_sources
from graphpose.inference.merge import merge
from graphpose.inference.outputs import OutputConfig
from graphpose.inference.sources import find_sources
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork
from tests.inference.films import write_film
from tests.inference.test_job import GreyPredictor


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "in"
    root.mkdir()
    pictures = [DemoDataset(9, size=64)[i].image for i in range(9)]
    for n, picture in enumerate(pictures):
        cv2.imwrite(str(root / f"{n}.png"), picture[..., ::-1])
    (root / "4.png").write_bytes(b"broken")
    write_film(root / "3a.avi", pictures)
    return root


def predict(folder, out, shard=None, **options):
    predictor = GreyPredictor(PoseNetwork(PoseNetworkConfig(backbone="regnetx_002", stem_pool=True, adjacency="none")))
    sources = find_sources([folder])
    sources = sources if shard is None else sources.part(*shard)
    config = OutputConfig(out, csv=True, json=True, shard=shard, **options)
    return predict_sources(predictor, sources, config, log=io.StringIO())


@pytest.mark.parametrize("of", [1, 3, 12])
def test_parts_that_are_joined_equal_one_run(folder, tmp_path, of):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    predict(folder, whole)
    for number in range(1, of + 1):
        predict(folder, parts, (number, of))
    assert f"{of} parts with 18 frames" in merge(parts)
    for file in whole.rglob("*"):
        if file.is_file():
            assert (parts / file.relative_to(whole)).read_bytes() == file.read_bytes(), file.name
    with pytest.raises(GraphposeError, match=r"results\.json' exists already"):
        merge(parts)
    merge(parts, overwrite=True)


def test_a_part_that_is_missing_or_was_stopped_is_named(folder, tmp_path, capsys):
    out = tmp_path / "out"
    predict(folder, out, (1, 3))
    predict(folder, out, (3, 3))
    assert main(["merge", str(out)]) == 2
    assert "part 2 of 3 is missing; run it with --shard N/3 --resume first" in capsys.readouterr().err
    predict(folder, out, (2, 3))
    (out / "finished.2-of-3.json").unlink()
    with pytest.raises(GraphposeError, match="part 2 of 3 has not come to its end"):
        merge(out)
    predict(folder, out, (2, 3), resume=True)
    assert main(["merge", str(out)]) == 0
    assert len(json.loads((out / "images.json").read_text())) == 18


def test_what_has_no_parts_or_those_of_two_runs_is_refused(tmp_path):
    with pytest.raises(GraphposeError, match="has no parts"):
        merge(tmp_path)
    for name in ("images.1-of-2.json", "images.1-of-3.json"):
        (tmp_path / name).write_text("[]")
    with pytest.raises(GraphposeError, match="has parts of 2 and 3"):
        merge(tmp_path)
    with pytest.raises(GraphposeError, match="n from 1 to of"):
        OutputConfig(tmp_path, shard=(3, 2))
    with pytest.raises(GraphposeError, match="cameras and streams"):
        find_sources(["0"]).part(1, 2)


def test_a_shard_that_is_none_is_named(folder, capsys):
    assert main(["predict", str(folder), "--shard", "3of4"]) == 2
    assert "--shard 3of4 must be N/OF, such as 3/64" in capsys.readouterr().err


@pytest.mark.slow
def test_two_ranks_equal_one_process(folder, tmp_path):
    torch.manual_seed(0)
    network = PoseNetwork(PoseNetworkConfig(backbone="regnetx_002", stem_pool=True, adjacency="none"))
    with torch.no_grad():  # fires everywhere, so that there are poses to write
        network.pif_head.conv.bias.view(17, 5, -1)[:, 0] += 8
        network.paf_head.conv.bias.view(19, 7, -1)[:, 0] += 8
    decoder = {"min_score": 0.0, "peak_threshold": 0.01, "max_poses": 5}
    save_checkpoint(tmp_path / "c.pt", network, network.config, decoder=decoder)
    arguments = ["predict", str(folder), "--checkpoint", str(tmp_path / "c.pt"), "--device", "cpu", "--long-edge", "0",
                 "--csv", "--out"]  # fmt: skip
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for out, launch in (("one", []), ("two", torchrun)):
        run = subprocess.run([sys.executable, *launch, "-m", "graphpose", *arguments, str(tmp_path / out)])
        assert run.returncode == 1  # 4.png is broken
    for name in ("results.json", "images.json", "keypoints.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert len(json.loads((tmp_path / "one" / "results.json").read_text())) > 10
