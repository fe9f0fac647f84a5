"""Part 1: tables: data sets to work with, sources to read, cleaning, charts."""
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "datasets": ["Shop", "load_shop", "make_shop"],
        "sources": ["SourceError", "batches", "read_table"],
        "cleaning": ["Cleaner", "Decision"],
        "charts": ["bar", "box", "histogram", "line", "missing_map", "scatter", "svg", "vector_map"],
    },
)
