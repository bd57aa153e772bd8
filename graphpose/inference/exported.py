"""An exported network as a network: images in, fields out, by ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from graphpose.errors import GraphposeError
from graphpose.fields.spec import FieldSpec
from graphpose.graphs.statistics import PoseStatistics
from graphpose.inference.contract import ExportedContract, read_contract, require_readable
from graphpose.nn.network import NetworkOutputs, PoseNetwork


class ExportedNetwork(nn.Module):
    """The network of a file of :func:`graphpose.inference.export.export_onnx`; nothing but the file is needed.

    It computes in the file's precision, with as many threads as torch has when it is made, and has no parameters.

    Args:
        path: the .onnx file.

    Attributes:
        contract: what the file says of itself.
        spec: the fields' skeleton and stride.
        pose_statistics: by which fragments are joined; None where those shipped for the skeleton are meant.

    Raises:
        GraphposeError: the package onnxruntime is missing; the file is missing, no ONNX, or not exported by graphpose,
            or by a version whose channels or input have another meaning.
    """

    def __init__(self, path: Path | str) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError:
            raise GraphposeError(
                f"'{path}' is run by the package 'onnxruntime': pip install 'graphpose[onnx]', or take --checkpoint"
            ) from None
        if not Path(path).is_file():
            raise GraphposeError(f"there is no file '{path}'; graphpose export writes it")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors: its warnings are about optimisations that it leaves out
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of the runtime's own types, one for each kind of damage
            raise GraphposeError(
                f"exported network '{path}' cannot be read; it is damaged or no ONNX file ({type(error).__name__})"
            ) from error
        try:
            self.contract: ExportedContract = read_contract(self._session.get_modelmeta().custom_metadata_map)
            require_readable(self.contract)
        except GraphposeError as error:
            raise GraphposeError(f"'{path}': {error}") from None
        self.spec: FieldSpec = self.contract.spec
        self.pose_statistics: PoseStatistics | None = self.contract.statistics

    def forward(self, images: Tensor) -> NetworkOutputs:
        """Fields of a batch of images, as those of :meth:`graphpose.nn.network.PoseNetwork.forward`, without
        "intermediate".

        Args:
            images: (B, 3, H, W) float32 in ImageNet normalisation, on the CPU; any B, H and W.
        """
        pif, paf = self._session.run(["pif", "paf"], {"images": images.contiguous().numpy()})
        return {"pif": torch.from_numpy(pif), "paf": torch.from_numpy(paf), "intermediate": []}


FieldNetwork = PoseNetwork | ExportedNetwork
