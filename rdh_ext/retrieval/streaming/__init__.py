"""Evaluation and search over code sets that do not fit into memory: by blocks, resumable, on any number of ranks."""
