"""isodistill: distil the logic of a teacher's chain of thought into a small language model."""
