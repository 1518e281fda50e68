"""Plan → chunks → engines → shards: from a pairs table to a score table."""
