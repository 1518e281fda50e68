"""The score table on disk: shards, manifests, runs, and what its columns hold. No torch."""
