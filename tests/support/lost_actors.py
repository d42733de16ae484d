"""A completer whose processes are lost, in a module that actors import."""

import os
import signal

from analysis.text.completer import RayCompleter


class Lost(RayCompleter):
    """Every batch kills the process that computes it."""

    def __init__(self, *given):
        super().__init__(*given)
        self.sampling = self

    def encode(self, *_):
        os.kill(os.getpid(), signal.SIGKILL)
