"""Part 6: the whole analysis in one call, its report, and the command line."""
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "pipeline": ["Analysis", "FittedAnalysis", "analyze", "load_model"],
        "report": ["render"],
    },
)
