"""Files, on this machine or in an object store: opened with care, written whole or not at all."""
