"""Measurements beside their bars and beside the obvious way, in one run: machines are noisy."""
