"""The embedded dataset: photographs and their distortions, built from a recipe."""
