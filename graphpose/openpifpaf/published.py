"""Where the authors of PifPaf published the networks of the paper's baseline rows.

Source: OpenPifPaf v0.8.0, ``network/nets.py`` (addresses; the last eight digits of a file's name begin its SHA-256) and
README (AP on COCO val2017 at 641 pixels).
"""

from __future__ import annotations

import dataclasses
import logging
import urllib.error
from pathlib import Path

import torch

from graphpose.checksum import file_sha256
from graphpose.errors import GraphposeError

logger = logging.getLogger(__name__)

LICENCE = "GNU AGPL v3 or later, © 2019 EPFL/VITA (other terms on request there)"
CITATION = (
    'S. Kreiss, L. Bertoni, A. Alahi: "PifPaf: Composite Fields for Human Pose Estimation", CVPR 2019, '
    "https://github.com/openpifpaf/openpifpaf"
)
_FOLDER = "https://storage.googleapis.com/openpifpaf-pretrained/v0.8.0/"


class NotDownloadedError(GraphposeError):
    """A published network is not there and could not be downloaded."""


@dataclasses.dataclass(frozen=True)
class Published:
    """A published network.

    Attributes:
        file: its name.
        ap: AP on COCO val2017 that its authors give.
    """

    file: str
    ap: float

    @property
    def path(self) -> Path:
        """Where it is kept: in torch's hub folder."""
        return Path(torch.hub.get_dir()) / "checkpoints" / self.file

    @property
    def address(self) -> str:
        """Where it is downloaded from."""
        return _FOLDER + self.file

    @property
    def checksum(self) -> str:
        """The first eight digits of its SHA-256."""
        return Path(self.file).stem.rsplit("-", 1)[1]


PUBLISHED = {
    "pifpaf-resnet50": Published("resnet50block5-pif-paf-edge401-190625-025154-4e47f5ec.pkl", 0.626),
    "pifpaf-resnet101": Published("resnet101block5-pif-paf-edge401-190629-151620-b2db8c7e.pkl", 0.657),
    "pifpaf-resnet152": Published("resnet152block5-pif-paf-edge401-190625-185426-3e2f28ed.pkl", 0.674),
    "pifpaf-resnext50": Published("resnext50block5-pif-paf-edge401-190629-151121-24491655.pkl", 0.638),
}


def find_file(source: str) -> Path:
    """The file of a name or a path; a published one is downloaded once, into torch's hub folder.

    Args:
        source: a key of ``PUBLISHED``, or a path.

    Returns:
        An existing file; a published one has the checksum of its name.

    Raises:
        GraphposeError: no such file or name, or another file under a published name.
        NotDownloadedError: it could not be downloaded; says where it has to be put.
    """
    if source not in PUBLISHED:
        path = Path(source)
        if not path.is_file():
            raise GraphposeError(
                f"'{source}' is neither a file nor a published network; those are {', '.join(PUBLISHED)}"
            )
        return path
    published = PUBLISHED[source]
    path = published.path
    if not path.is_file():
        download(published, path)
    if not file_sha256(path).startswith(published.checksum):
        raise GraphposeError(
            f"'{path}' has another checksum than {published.checksum}…, so it is damaged or another file; delete it, "
            f"and it is downloaded again from {published.address}"
        )
    return path


def download(published: Published, path: Path) -> None:
    """Download a published network with progress and checksum; ``path`` is whole or not there.

    Raises:
        NotDownloadedError: says what to download and where to put it.
    """
    logger.info("downloading %s", published.address)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(published.address, str(path), hash_prefix=published.checksum)
    except (OSError, RuntimeError, urllib.error.URLError) as error:  # RuntimeError: torch's wrong checksum
        reason = getattr(error, "reason", None) or error
        raise NotDownloadedError(
            f"{published.address} could not be downloaded ({reason}); download it elsewhere and put it at '{path}', "
            "or give the path of the file to graphpose import"
        ) from error


def model_card(source: str, form: str, scale_factor: float) -> dict[str, str]:
    """What a checkpoint says of an imported network: origin, licence, citation, and what was converted.

    Args:
        source: name or path that it was imported from.
        form: "v0.8" or "0.13".
        scale_factor: see :data:`~graphpose.openpifpaf.convert.SCALE_FACTORS`.
    """
    published = PUBLISHED.get(source)
    origin = f"{source}, {published.address}" if published else Path(source).name
    card = {"origin": f"OpenPifPaf {form} checkpoint: {origin}", "licence": LICENCE, "citation": CITATION}
    if published:
        card["published AP"] = f"{published.ap:.3f} on COCO val2017 at 641 pixels (its authors' figure)"
    card["scale"] = f"the original's times {scale_factor:g}: from the box of keypoints to the person's area"
    return card
