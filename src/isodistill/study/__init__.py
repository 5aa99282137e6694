"""Studies: methods x seeds x data x students as a grid that is fair, resumable and looked at once."""

from isodistill.study.config import StudyConfig, load_study
from isodistill.study.folder import FinalRun, StudyFolder

__all__ = ["FinalRun", "StudyConfig", "StudyFolder", "load_study"]
