"""Part 2: data mining from first principles: linear models, margins, trees, clusters and mixtures, item sets and rules, series, communities."""
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        # 01 linear models
        "linear_diagnostics": ["diagnostics", "plot_diagnostics"],
        "linear_lasso": ["ElasticNet", "Lasso", "lasso_path"],
        "linear_logistic": ["LogisticRegression"],
        "linear_ols": ["LinearRegression"],
        "linear_ridge": ["Ridge"],
        # 02 support vector machines
        "svm": ["plot_boundary"],
        "svm_classifier": ["SVC"],
        "svm_kernels": ["kernel_matrix"],
        "svm_model": ["SVR"],
        # 03 trees and forests
        "tree_forest": ["RandomForestClassifier", "RandomForestRegressor"],
        "tree_model": ["DecisionTreeClassifier", "DecisionTreeRegressor"],
        "tree_show": ["export_text", "plot_tree"],
        # 04 clusters and mixtures
        "kmeans": ["KMeans"],
        "kmeans_choose": ["choose_k", "silhouette_samples"],
        "kmeans_minibatch": ["MiniBatchKMeans"],
        "kmeans_mixture": ["GaussianMixture"],
        # 05 item sets and rules
        "apriori_bitsets": ["Apriori"],
        "apriori_fpgrowth": ["FPGrowth"],
        "apriori_network": ["plot_rules"],
        "apriori_rules": ["SearchTooLarge"],
        # 06 series
        "arima_baselines": ["Drift", "MeanForecast", "Naive", "SeasonalNaive"],
        "arima_decompose": ["decompose", "plot_decomposition", "stl", "strength"],
        "arima_ets": ["ETS"],
        "arima_evaluate": ["compare", "coverage", "mase", "naive_scale", "pinball", "plot_forecast", "rolling_origin", "scores", "smape"],
        "arima_model": ["ARIMA"],
        "arima_search": ["auto_arima"],
        "arima_series": ["Forecaster", "future_index", "read_series"],
        "arima_tests": ["acf", "adf_test", "kpss_test", "ljung_box", "ndiffs", "nsdiffs", "pacf", "plot_acf", "plot_residuals"],
        # 07 communities
        "communities_graph": ["GraphWarning", "read_graph"],
        "communities_louvain": ["Louvain"],
        "communities_picture": ["plot_graph", "spring_layout"],
        "communities_propagation": ["LabelPropagation"],
        "communities_quality": ["modularity", "nmi"],
        "communities_spectral": ["SpectralCommunities"],
    },
)
