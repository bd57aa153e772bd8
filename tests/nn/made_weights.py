"""Networks with weights as if they were trained."""

import torch

from graphpose.nn.network import PoseNetwork


def randomise(network: PoseNetwork, seed: int = 1) -> torch.Generator:
    """Random relations, batch norms and ways back to the features; returns the generator, to go on with."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*network.named_parameters(), *network.named_buffers()):
            if name.endswith("running_var") or name.endswith("norm.weight"):
                tensor.uniform_(0.5, 2.0, generator=generator)
            elif name.endswith(("running_mean", "norm.bias", "W_d")):
                tensor.normal_(generator=generator)
            elif name.endswith("expand.weight"):
                tensor.normal_(std=0.1, generator=generator)
    return generator
