"""Run the command as `python -m analysis.cli`."""

from analysis.cli import main

main()
