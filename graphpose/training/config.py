"""Settings of a training run."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from graphpose.errors import GraphposeError


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run; the defaults are the paper's, or the baseline's where the paper is silent.

    Attributes:
        epochs: passes over the training set.
        optimizer: "sgd" (Nesterov momentum) or "adamw".
        learning_rate: at the end of the warm-up.
        baseline_learning_rate_factor: learning rate of trunk and heads as a fraction of ``learning_rate``, which the
            DGCMs have. Below 1 trunk and heads that are trained already stay near what they are while fresh DGCMs
            learn; 0 keeps them.
        momentum: of SGD; AdamW's first beta is 0.9.
        weight_decay: of the optimiser; batch-norm and bias are exempt.
        schedule: "constant", "step" (a factor of ten at each milestone) or "cosine" (to zero at the end).
        milestones: epochs of the drops of "step".
        warmup_epochs: epochs, or a fraction of one, in which the learning rate rises linearly from a hundredth.
        frozen_backbone_epochs: first epochs in which the backbone does not learn.
        frozen_stride: the backbone's stages up to this stride, 4 for a ResNet's stem and first stage, never learn,
            neither weights nor batch norms, which saves their way back; 0 for none.
        freeze_batch_norm: keep the backbone's batch-norm statistics as they were pretrained.
        ema_decay: of the averaged weights, 0 for none; early on it is min(decay, (1 + n) / (10 + n)) after n steps.
        clip_norm: largest norm of the gradient, 0 for no clipping.
        precision: "float32", "bfloat16" or "float16" autocast.
        tf32: where float32 on Ampere GPUs and later is TF32, which has 10 bits after the point: "convolutions" (torch's
            default), "none" or "all". Elsewhere float32 is IEEE's.
        deterministic: two runs of one seed on CUDA are the same bit for bit, and so is a resumed one; slower. An
            operation that cannot ends the run. On a CPU with as many threads they are anyway.
        channels_last: memory format of images and weights.
        compile: run the network through torch.compile; the first steps then take minutes.
        accumulate: parts that a batch passes the network in, one after the other, to save memory. The batch stays the
            batch of one update and the loss is that of the whole batch; dynamic graphs are drawn for each part, and
            batch norms that learn see a part at a time.
        sync_batch_norm: batch norms that learn see the batches of all ranks (CUDA only); without it each rank's own,
            and the running statistics are those of rank 0.
        evaluate_every: epochs between two evaluations; the last epoch is always evaluated.
        checkpoint_every: seconds between two checkpoints within an epoch, 0 for none; there is one after every epoch
            that is not over in a moment, and after every evaluation.
        checkpoint_every_steps: steps between two checkpoints within an epoch, 0 for none.
    """

    epochs: int = 100
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 1e-3
    baseline_learning_rate_factor: float = 1.0
    momentum: float = 0.95
    weight_decay: float = 0.0
    schedule: Literal["constant", "step", "cosine"] = "step"
    milestones: tuple[int, ...] = (75, 90)
    warmup_epochs: float = 1.0
    frozen_backbone_epochs: int = 1
    frozen_stride: int = 0
    freeze_batch_norm: bool = True
    ema_decay: float = 0.999
    clip_norm: float = 0.0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    tf32: Literal["none", "convolutions", "all"] = "convolutions"
    deterministic: bool = False
    channels_last: bool = True
    compile: bool = False
    accumulate: int = 1
    sync_batch_norm: bool = False
    evaluate_every: int = 1
    checkpoint_every: float = 600.0
    checkpoint_every_steps: int = 0

    def __post_init__(self) -> None:
        def require(condition: bool, message: str) -> None:
            if not condition:
                raise GraphposeError(message)

        require(self.epochs >= 1, f"epochs={self.epochs} must be at least 1")
        require(self.optimizer in ("sgd", "adamw"), f"optimizer='{self.optimizer}' must be sgd or adamw")
        require(self.learning_rate > 0, f"learning_rate={self.learning_rate} must be positive")
        factor = self.baseline_learning_rate_factor
        require(0 <= factor < math.inf, f"baseline_learning_rate_factor={factor} must be a number from 0 on")
        require(
            self.schedule in ("constant", "step", "cosine"),
            f"schedule='{self.schedule}' must be constant, step or cosine",
        )
        require(
            self.precision in ("float32", "bfloat16", "float16"),
            f"precision='{self.precision}' must be float32, bfloat16 or float16",
        )
        require(self.tf32 in ("none", "convolutions", "all"), f"tf32='{self.tf32}' must be none, convolutions or all")
        require(0 <= self.ema_decay < 1, f"ema_decay={self.ema_decay} must be in [0, 1)")
        require(self.accumulate >= 1, f"accumulate={self.accumulate} must be at least 1")
        for name in ("checkpoint_every", "checkpoint_every_steps"):
            require(getattr(self, name) >= 0, f"{name}={getattr(self, name)} must not be negative")
        require(self.evaluate_every >= 1, f"evaluate_every={self.evaluate_every} must be at least 1")
        require(self.warmup_epochs >= 0, f"warmup_epochs={self.warmup_epochs} must not be negative")
        require(self.frozen_stride >= 0, f"frozen_stride={self.frozen_stride} must not be negative")
        require(
            self.frozen_backbone_epochs < self.epochs or self.frozen_backbone_epochs == 0,
            f"frozen_backbone_epochs={self.frozen_backbone_epochs} leaves nothing of epochs={self.epochs} to train the "
            "backbone; set frozen_backbone_epochs=0 for a run that short",
        )
