"""Published networks by name: found in the hub's folder, downloaded with a checksum, refused with what to do."""

import dataclasses
import hashlib
import re
from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from graphpose.cli import main
from graphpose.errors import GraphposeError
from graphpose.openpifpaf import published
from graphpose.openpifpaf.published import PUBLISHED, Published, find_file, model_card


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path / "checkpoints"


@pytest.fixture
def known(monkeypatch) -> bytes:
    """The content of a network that is published for the time of a test."""
    content = b"a network"
    name = f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pkl"
    monkeypatch.setitem(published.PUBLISHED, "pifpaf-test", Published(name, 0.5))
    return content


def test_names_give_the_authors_addresses_and_the_checksum_of_the_file_name():
    resnet50 = PUBLISHED["pifpaf-resnet50"]
    assert resnet50.address == (
        "https://storage.googleapis.com/openpifpaf-pretrained/v0.8.0/"
        "resnet50block5-pif-paf-edge401-190625-025154-4e47f5ec.pkl"
    )
    assert resnet50.checksum == "4e47f5ec"
    assert PUBLISHED.keys() == {f"pifpaf-{name}" for name in ("resnet50", "resnet101", "resnet152", "resnext50")}
    assert all(re.fullmatch("[0-9a-f]{8}", network.checksum) for network in PUBLISHED.values())
    assert dataclasses.is_dataclass(resnet50)


def test_offline_says_what_to_download_and_where_to_put_it(hub, monkeypatch, capsys):
    def offline(address, path, **options):
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    assert main(["import", "pifpaf-resnet101"]) == 2
    message = capsys.readouterr().err
    network = PUBLISHED["pifpaf-resnet101"]
    assert network.address in message
    assert str(hub / network.file) in message
    assert "Name or service not known" in message


def test_a_download_is_checked_and_made_once(hub, known, monkeypatch):
    calls = []

    def download(address, path, hash_prefix):
        calls.append((address, hash_prefix))
        Path(path).write_bytes(known)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    network = PUBLISHED["pifpaf-test"]
    assert find_file("pifpaf-test") == find_file("pifpaf-test") == hub / network.file
    assert calls == [(network.address, network.checksum)]


def test_a_file_of_another_checksum_is_refused(hub, known):
    hub.mkdir()
    (hub / PUBLISHED["pifpaf-test"].file).write_bytes(known + b"!")
    with pytest.raises(GraphposeError, match="another checksum than"):
        find_file("pifpaf-test")


def test_paths_are_taken_and_anything_else_is_refused_with_the_names(tmp_path):
    (tmp_path / "file.pkl").touch()
    assert find_file(str(tmp_path / "file.pkl")) == tmp_path / "file.pkl"
    with pytest.raises(GraphposeError, match=r"neither a file nor a published network; those are pifpaf-resnet50, "):
        find_file("pifpaf-resnet500")


def test_the_card_names_origin_licence_citation_and_the_authors_figure():
    card = model_card("pifpaf-resnet50", "v0.8", 0.93)
    assert PUBLISHED["pifpaf-resnet50"].address in card["origin"]
    assert card["published AP"].startswith("0.626")
    assert {"licence", "citation", "scale"} <= card.keys()
    assert "published AP" not in model_card("my/own.pkl", "0.13", 0.79)
