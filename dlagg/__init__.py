"""Deep learning and data mining, taught and done: learn features `Z = M(X)`, then aggregate them, `Y = agg(Z)`.

The parts are loaded when they are first used, so `import dlagg` costs next to nothing.
"""
import lazy_loader

__version__ = "0.1.0"

_attach = lazy_loader.attach(__name__, submodules=["course", "tables", "mining", "agg", "app"])
__getattr__, __dir__, _ = _attach
__all__ = ["__version__", "course", "tables", "mining", "agg", "app"]
