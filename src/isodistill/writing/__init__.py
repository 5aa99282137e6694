"""Isomers written by a model: text and formulas, kept only where logic, solver and a second reading agree."""

from isodistill.writing.assemble import WritingOptions, WritingReport
from isodistill.writing.examine import Proposal, Reading, examine_proposal, examine_reading, require_agreement
from isodistill.writing.prompt import writing_instruction
from isodistill.writing.reply import Mend, Rejected
from isodistill.writing.sources import Source, Sources, read_sources
from isodistill.writing.write import write_isomers

__all__ = [
    "Mend",
    "Proposal",
    "Reading",
    "Rejected",
    "Source",
    "Sources",
    "WritingOptions",
    "WritingReport",
    "examine_proposal",
    "examine_reading",
    "read_sources",
    "require_agreement",
    "write_isomers",
    "writing_instruction",
]
