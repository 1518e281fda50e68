"""The `fmiqa` command, one module per group of verbs."""
