"""Other people's results: their files, their tables, and how ours agree with them."""
