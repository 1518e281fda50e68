"""What a score table says: correlations, intervals, tests, the choice of a layer. No torch."""
