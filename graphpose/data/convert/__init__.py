"""Other tools' keypoint labels as COCO-format files: :mod:`graphpose.data.convert.yolo_pose` and
:mod:`graphpose.data.convert.deeplabcut`."""
