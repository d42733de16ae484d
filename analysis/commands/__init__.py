"""The commands of `arguide`, one a module; heavy modules are imported inside, so that `--help` is quick."""
