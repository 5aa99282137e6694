"""Isomer sets: one skeleton of logic worn by several domains, generated and verified."""
