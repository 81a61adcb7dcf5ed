"""scikit-learn as a worker, as peer.py: logistic probes of 13 places, standardised, C = 1, until no slope exceeds 1e-8.

    python probes.py DIR          # of make_model.py; PEER_THREADS says how many threads
"""
import json
import os
import sys
import time
from pathlib import Path

for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{library}_NUM_THREADS"] = os.environ.get("PEER_THREADS", "2")

import numpy as np
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler


def fit(x, y):
    probe = LogisticRegression(C=1.0, tol=1e-8, max_iter=10_000).fit(StandardScaler().fit_transform(x), y)
    return np.append(probe.coef_[0], probe.intercept_)


def main(folder):
    data = load_file(folder / "probe.safetensors")
    places, y = [x.astype(np.float64) for x in data["x"]], data["y"]
    print(json.dumps(dict(ready=0.0, peak=0)), flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        found = [fit(x, y) for x in places]
        print(json.dumps(dict(seconds=time.perf_counter() - begin, values=np.concatenate(found).tolist(), peak=0)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
