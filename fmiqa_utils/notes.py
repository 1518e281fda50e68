"""Sentences that must read the same wherever they stand: console, tables, captions, report."""

UNTRAINED_NOTE = "UNTRAINED stand-in weights: these numbers show the machinery at work, they say nothing about foundation models."
UNTRAINED_TAG = "untrained weights"  # once the sentence has been said
