"""Exact toy distributions, the experiments on them, the report, and the console command `arguide`."""


def __getattr__(name: str) -> object:
    """Import a public name on its first use; what does that is imported then, so that the command starts at once."""
    import lazy_loader

    found = dict(zip(("__getattr__", "__dir__", "__all__"), lazy_loader.attach_stub(__name__, __file__), strict=True))
    globals().update(found)
    return found[name] if name in found else found["__getattr__"](name)


def __dir__() -> object:
    return __getattr__("__all__")
