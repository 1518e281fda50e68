"""fmiqa: what vision foundation models see when an image is distorted."""

__version__ = "0.1.0"
