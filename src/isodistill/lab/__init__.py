"""The lab student: a tiny Llama pretrained on the packs' own text, for studies of many runs on a small machine."""

from isodistill.lab.build import build_lab, lab_folder, untrained_lab
from isodistill.lab.config import LabConfig, make_lab_config

__all__ = ["LabConfig", "build_lab", "lab_folder", "make_lab_config", "untrained_lab"]
