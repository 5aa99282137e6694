"""Training: a TRL trainer for isomer sets, and a run from a configuration."""

from isodistill.runs import DIAGNOSTICS_FILE
from isodistill.trainer.config import IsomerConfig
from isodistill.trainer.run import TrainJob, run_training
from isodistill.trainer.trainer import ALIGNER_FILE, IsomerTrainer

__all__ = ["ALIGNER_FILE", "DIAGNOSTICS_FILE", "IsomerConfig", "IsomerTrainer", "TrainJob", "run_training"]
