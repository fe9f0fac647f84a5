"""Part 2: data mining from first principles: linear models, K-means, frequent item sets and rules."""
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "apriori_bitsets": ["Apriori"],
        "apriori_fpgrowth": ["FPGrowth"],
        "apriori_network": ["plot_rules"],
        "apriori_rules": ["SearchTooLarge"],
        "arima_model": ["ARIMA"],
        "communities_graph": ["GraphWarning", "read_graph"],
        "communities_louvain": ["Louvain"],
        "communities_picture": ["plot_graph", "spring_layout"],
        "communities_propagation": ["LabelPropagation"],
        "communities_quality": ["modularity", "nmi"],
        "communities_spectral": ["SpectralCommunities"],
        "arima_series": ["Forecaster", "future_index", "read_series"],
        "arima_decompose": ["decompose", "plot_decomposition", "stl", "strength"],
        "arima_tests": ["acf", "adf_test", "kpss_test", "ljung_box", "ndiffs", "nsdiffs", "pacf", "plot_acf", "plot_residuals"],
        "arima_baselines": ["Drift", "MeanForecast", "Naive", "SeasonalNaive"],
        "linear_diagnostics": ["diagnostics", "plot_diagnostics"],
        "linear_lasso": ["ElasticNet", "Lasso", "lasso_path"],
        "linear_logistic": ["LogisticRegression"],
        "linear_ols": ["LinearRegression"],
        "linear_ridge": ["Ridge"],
        "kmeans": ["KMeans", "silhouette_samples"],
        "kmeans_minibatch": ["MiniBatchKMeans"],
        "kmeans_mixture": ["GaussianMixture"],
        "svm_classifier": ["SVC"],
        "svm_kernels": ["kernel_matrix"],
        "svm_model": ["SVR"],
    },
)
