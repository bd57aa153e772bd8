"""Annotation files as arrays: the records of COCO, CrowdPose, MPII and any COCO-format keypoint file."""
