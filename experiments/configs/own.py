"""Your own keypoints, persons or not: 100 to 5,000 annotated images, on a CPU or one GPU.

Data: an annotation file in COCO's format and the folder of its images; a fifth of the images are evaluated on, or those
of a second file (``val_annotations``). ``graphpose check FILE --images FOLDER`` says beforehand what is in it.
Hours: on a CPU 8,000 images are seen, which one idle core does in half an hour to an hour; on a GPU 100,000.
Score: of 200 made images each (``write_made`` of tests/own_skeletons.py), 160 of them to train on, at
``image_size=129`` with one seed: from the shipped network's trunk a body with feet (26 keypoints) had AP 0.985 after 6
epochs, a hand (21) 0.267, and 0.127 with fields of the shipped network's stride 8. From nothing (``pretrained=False
epochs=24``, 65 to 101 CPU seconds) the body had AP 0.993, a kite in two parts 0.984, a hand 0.327.

    python experiments/run.py with own annotations=FILE images=FOLDER

Skeleton, flip pairs and sigmas are the file's, and so are the statistics of Eq. 5 unless its keypoints are those of
COCO, CrowdPose or MPII. What follows from the data is chosen when the run starts (experiments/running/own.py): size of
the images, batch, epochs, trunk, and what goes with them; a line each says what and why, and every key that the command
line sets stays as it is set. Below is what does not follow from the data.
"""

from __future__ import annotations

from typing import Any

from experiments.configs import demo, photographs
from experiments.configs.defaults import GROUPS
from graphpose.nn.config import SHIPPED_NAME

# A trunk that is trained already: that of the shipped network, or of ImageNet. Fields of stride 4, whatever photographs
# of whole people have: the limbs of hands, faces and animals are short.
PRETRAINED: dict[str, Any] = {
    key: photographs.CONFIG[key] for key in ("backbone", "stem_pool", "learning_rate", "weight_decay", "ema_decay")
} | {"upsample": 4}
# A small one that is not.
FROM_SCRATCH: dict[str, Any] = {
    key: demo.CONFIG[key] for key in ("backbone", "stem_pool", "upsample", "learning_rate", "weight_decay", "ema_decay")
}

CONFIG: dict[str, Any] = photographs.CONFIG | photographs.PLAIN | PRETRAINED | {
    "data": "coco",
    "data_root": "",  # paths are typed from where the command is, whatever GRAPHPOSE_DATA says
    "train_sets": [],
    "val_annotations": "",
    "val_images": "",
    "pretrained": SHIPPED_NAME,
    "workers": None,
    "precision": "float32",
    "test_flip": True,
    "crowd": GROUPS["crowd"],
    "augment": photographs.CONFIG["augment"] | {"person_size": None},
}  # fmt: skip
