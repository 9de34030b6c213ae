"""Measurements, as ratios of two things done side by side in one run: machines are noisy."""
