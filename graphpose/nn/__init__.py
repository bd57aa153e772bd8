"""The network: backbone → dynamic graph convolutional modules → PIF and PAF heads."""

from graphpose.nn import torchvision_ops as torchvision_ops  # before timm, which imports torchvision
