"""A toy problem with a known invariant and a known shortcut, on which every method shows what it can tell apart."""
