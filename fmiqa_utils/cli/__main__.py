"""`python -m fmiqa_utils.cli` is `fmiqa`."""

from fmiqa_utils.cli.main import main

main()
