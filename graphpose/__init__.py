"""graphpose: dynamic graph convolutional networks on keypoint graphs for bottom-up multi-person pose estimation.

Reference implementation of DGCN (Qiu, Qiu, Fu, Fu; AAAI 2020). Data flows from left to right and imports point from
right to left: annotations → statistics → graphs → nn → fields → metrics.
"""

__version__ = "0.1.0"
