"""Run the command `arguide` as `python -m arguide`.

The command is part of `analysis`, which imports this package and is never imported by it. So it is found as what the installed
distribution starts under the name `arguide`.
"""

from importlib.metadata import distribution

(command,) = distribution("arguide").entry_points.select(group="console_scripts", name="arguide")
command.load()()
