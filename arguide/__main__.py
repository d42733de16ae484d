"""Run the command `arguide` as `python -m arguide`.

The command is part of `analysis`, which imports this package and is never imported by it. So it is found as the one command
that the installed distribution has.
"""

from importlib.metadata import distribution

(command,) = distribution("arguide").entry_points
command.load()()
