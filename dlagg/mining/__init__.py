"""Part 2: data mining from first principles: K-means."""
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "kmeans": ["KMeans", "silhouette_samples"],
    },
)
