"""Numbers for a pair of windows: distances between features, and the classic metrics beside them."""
