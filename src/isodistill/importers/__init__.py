"""Data from elsewhere as isomer sets or as rows tagged with a domain: one file for each source."""

from isodistill.importers.columns import Columns, import_columns
from isodistill.importers.folio import import_folio
from isodistill.importers.gsm8k import import_gsm8k
from isodistill.importers.isosci import import_isosci
from isodistill.importers.logicbench import import_logicbench
from isodistill.importers.problems import Imported, Problem
from isodistill.importers.reasoning_gym import import_reasoning_gym
from isodistill.importers.source import local_folder, read_source
from isodistill.importers.write import ImportReport, Origin, write_import

__all__ = [
    "Columns",
    "ImportReport",
    "Imported",
    "Origin",
    "Problem",
    "import_columns",
    "import_folio",
    "import_gsm8k",
    "import_isosci",
    "import_logicbench",
    "import_reasoning_gym",
    "local_folder",
    "read_source",
    "write_import",
]
