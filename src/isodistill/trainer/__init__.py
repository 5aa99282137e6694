"""Training: a TRL trainer for isomer sets."""

from isodistill.trainer.config import IsomerConfig
from isodistill.trainer.trainer import ALIGNER_FILE, DIAGNOSTICS_FILE, IsomerTrainer

__all__ = ["ALIGNER_FILE", "DIAGNOSTICS_FILE", "IsomerConfig", "IsomerTrainer"]
