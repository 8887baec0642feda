"""Which features suit these labels best? From arrays that you saved, without any network."""

import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.random_projection import GaussianRandomProjection

from lowdim.data import load_data
from lowdim.ranking import Candidate, rank

pixels, labels = load_digits(return_X_y=True)
train, test = slice(0, 1000), slice(1000, None)
extractors = {
    "random projection": GaussianRandomProjection(9, random_state=0),
    "principal components": PCA(9),
    "linear discriminants": LinearDiscriminantAnalysis(),
}

with tempfile.TemporaryDirectory() as folder:
    files = {}
    for number, (name, extractor) in enumerate(extractors.items()):
        extractor.fit(pixels[train], labels[train])
        files[name] = Path(folder) / f"{number}.npz"
        features = extractor.transform(pixels).astype(np.float32)
        np.savez(
            files[name], x_train=features[train], y_train=labels[train], x_test=features[test], y_test=labels[test]
        )
    candidates = [Candidate(name=name, features=str(file)) for name, file in files.items()]
    # The same on the command line: lowdim rank --model 0.npz --model 1.npz --model 2.npz --data 0.npz
    found = rank(candidates, load_data(str(files["linear discriminants"])))

for place in found.places:
    scores = place.evaluation.scores
    print(
        f"{place.rank}. {place.candidate.name}: NC1 {scores['nc1']:.2f}, held out {scores['nc1_heldout']:.2f}, "
        f"probe {scores['probe_accuracy']:.3f}"
    )
for warning in found.warnings:
    print("note:", warning)
