"""Foundation models: the named ones, their weights, their windows, and the features of one forward pass."""
