"""The command line as a whole."""

import logging

from graphpose.cli import main


def test_other_libraries_tell_nothing_of_their_inside(capsys, monkeypatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])  # pytest's own would take the place of the command's
    level = root.level
    try:
        assert main(["info", "nowhere.pt"]) == 2
        for name in ("onnxscript", "onnx_ir.passes", "torch.onnx", "PIL.Image", "matplotlib"):
            assert not logging.getLogger(name).isEnabledFor(logging.INFO)
        assert logging.getLogger("graphpose.data").isEnabledFor(logging.INFO)
    finally:
        root.setLevel(level)
        logging.getLogger("graphpose").setLevel(logging.NOTSET)
