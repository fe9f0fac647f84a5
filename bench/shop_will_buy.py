"""Who will buy next week? The shop's visits, where the order of events decides: the sequence encoder beside the tabular one and beside sums with boosting.

2,000 customers, visits of the last 60 days; 500 customers are new to the model, chosen anew by each seed. `DeepAggregator` with its
default settings but for the encoder; gradient boosting on the classic aggregates (count, mean, std, min, max, sum) of the event kinds,
devices and seconds. The measure is the AUC on the new customers; "planted" is that of the fact itself that decides who buys.
"""
import time
import warnings

from bench._training import arguments, save    # before Keras: it chooses the backend

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from dlagg.agg import DeepAggregator, group_aggregate
from dlagg.tables.datasets import make_shop

ENCODERS = ("sequence", "tabular")


def measure(shop, seed, encoders=ENCODERS):
    "AUC of every way, seconds of the fits, for one choice of new customers."
    visits, answer = shop.visits, shop.customers.set_index("customer_id")["will_buy"]
    test = answer.sample(len(answer) // 4, random_state=seed).index
    new = visits["customer_id"].isin(test)
    result = {"seed": seed, "planted": roc_auc_score(answer[test], shop.truth["customers"].set_index("customer_id")["keen"][test])}
    for name in encoders:
        begin = time.perf_counter()
        with warnings.catch_warnings(action="ignore"):    # it says that visit_id is left out
            model = DeepAggregator("customer_id", encoder=name, random_state=seed).fit(visits[~new], answer.drop(test))
        result[name] = roc_auc_score(answer[test], model.predict_proba(visits[new]).loc[test, 1])
        result[f"{name}_seconds"] = round(time.perf_counter() - begin, 1)
    counts = pd.get_dummies(visits[["customer_id", "event", "device", "seconds"]], columns=["event", "device"], dtype=float)
    table = group_aggregate(counts, "customer_id")
    boosting = HistGradientBoostingClassifier(random_state=0).fit(table.drop(test), answer.drop(test))
    result["boosting"] = roc_auc_score(answer[test], boosting.predict_proba(table.loc[test])[:, 1])
    print({k: round(v, 3) for k, v in result.items()}, flush=True)
    return result


def main():
    start = time.perf_counter()
    if arguments(__doc__):
        result = measure(make_shop(2000, random_state=0), 0, ("sequence",))
        assert result["sequence"] > 0.8 > 0.65 > result["boosting"], result
        return
    runs = [measure(make_shop(2000, random_state=0), seed) for seed in range(5)]
    auc = {name: [r[name] for r in runs] for name in ("planted", *ENCODERS, "boosting")}
    save("shop_will_buy", start, protocol=__doc__, auc={name: {"mean": float(np.mean(a)), "least": min(a), "most": max(a)} for name, a in auc.items()}, runs=runs)


if __name__ == "__main__":
    main()
