r"""Evaluate samples with a classifier that is independent of the models, and by their distance to data in its features.

    accuracy            share of samples to which the classifier gives the requested label
    class entropy       entropy of the classifier's labels over all samples, nats
    spread              mean distance of two samples of one label, in units of that of held-out data
    distinct            share of different samples
    memorised           share of texts that are training rows; of images, share that is nearer to a training row than 95 % of
                        held-out images are
    new rows            share of texts that are held-out rows and no training rows
    precision, recall, density, coverage, energy distance    see `metrics.sample_quality`

Every label has the same number of samples. So the reference has the same number of held-out rows per label, 100 at most;
held-out texts that also are training rows are left out.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import Tensor

from analysis.learning.datasets import Data
from analysis.metrics.sample_quality import energy, neighbours, spread

FEATURES, REFERENCE = 32, 100
COPY = 0.05  # share of held-out images that count as copies of training rows


class Evaluator:
    """A classifier of data, and features in which samples are compared: of pixels, or of the character n-grams of texts.

    Attributes:
        accuracy: of the classifier on held-out data.
        reference: features of the held-out rows that samples are compared with, [m, d].
    """

    def __init__(self, data: Data) -> None:
        reader: Any
        if isinstance(data.rows, Tensor):
            reader = StandardScaler(with_std=False)
            classifier: Any = SVC(gamma="scale", C=5.0, class_weight="balanced")
            reducer: Any = PCA(random_state=0)
        else:
            reader = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), min_df=2, sublinear_tf=True, max_features=50_000)
            classifier = LogisticRegression(C=10.0, max_iter=300, class_weight="balanced")
            reducer = TruncatedSVD(random_state=0)
        read = reader.fit_transform(_plain(data.rows))
        reducer.set_params(n_components=min(FEATURES, read.shape[0] - 1, read.shape[1]))
        self.classifier = make_pipeline(reader, classifier.fit(read, data.labels.numpy()))
        self.reducer = make_pipeline(reader, reducer.fit(read))
        rows, labels = reference(data)
        self.reference = self.features(rows)
        self.within = torch.cdist(self.reference, self.reference)
        self.spread = spread(self.reference, labels)
        self.novelty = Novelty(data, self.features)
        self.accuracy = float((self.labels(data.held) == data.held_labels).double().mean())

    def labels(self, rows: Any) -> Tensor:
        """Return the label that the classifier gives every row, [n]."""
        return torch.from_numpy(self.classifier.predict(_plain(rows))).long()

    def features(self, rows: Any) -> Tensor:
        """Return the features of every row, [n, d]."""
        return torch.from_numpy(np.asarray(self.reducer.transform(_plain(rows)))).double()

    def measures(self, rows: Any, labels: Tensor) -> dict[str, float]:
        """Return all measures of samples with their requested labels [n]."""
        found, x = self.labels(rows), self.features(rows)
        shares = found.bincount().double() / len(found)
        keys = ((rows.flatten(1) + 1) * 8).round().tolist() if isinstance(rows, Tensor) else rows
        return {
            "accuracy": float((found == labels).double().mean()),
            "class entropy": float(-torch.special.xlogy(shares, shares).sum()),
            "distinct": len(set(map(tuple, keys))) / len(keys),
            "spread": spread(x, labels) / (self.spread or math.nan),  # no unit exists where all data are alike
            "energy distance": energy(x, self.reference, self.within),
            **self.novelty.measures(rows, x),
            **neighbours(x, self.reference, self.within),
        }


class Novelty:
    """Whether samples are copies of training rows: by equality of texts, by the distance of images in features."""

    def __init__(self, data: Data, features: Callable[[Any], Tensor]) -> None:
        self.known: set[str] = set()
        self.new: set[str] = set()
        if isinstance(data.rows, Tensor):
            self.train = features(data.rows)
            self.reach = float(_nearest(features(data.held), self.train).quantile(COPY))
        else:
            self.known = set(data.rows)
            self.new = set(data.held) - self.known

    def measures(self, rows: Any, x: Tensor) -> dict[str, float]:
        """Return the shares of samples with features x, [n, d], that are copies, and of texts that are held-out rows."""
        if isinstance(rows, Tensor):
            return {"memorised": float((_nearest(x, self.train) < self.reach).double().mean())}
        sources = (("memorised", self.known), ("new rows", self.new))
        return {name: sum(row in of for row in rows) / len(rows) for name, of in sources}


def _nearest(x: Tensor, y: Tensor) -> Tensor:
    """Return the distance of every x to the nearest y, [n]."""
    return torch.cat([torch.cdist(part, y).min(1).values for part in torch.split(x, 1024)])


def _plain(rows: Any) -> Any:
    """Return pixels [n, d] as an array, or a list of texts."""
    return rows.flatten(1).double().numpy() if isinstance(rows, Tensor) else list(rows)


def reference(data: Data, most: int = REFERENCE) -> tuple[Any, Tensor]:
    """Return new held-out rows, the same number per label, and their labels; all rows if a label has fewer than two."""
    known = set() if isinstance(data.rows, Tensor) else set(data.rows)
    new = torch.tensor([isinstance(row, Tensor) or row not in known for row in data.held])
    groups = [(new & (data.held_labels == label)).nonzero()[:, 0] for label in range(len(data.names))]
    each = min(most, *(len(group) for group in groups))
    generator = torch.Generator().manual_seed(0)  # rows may be sorted
    some = [group[torch.randperm(len(group), generator=generator)[:each].sort().values] for group in groups]
    index = torch.cat(some) if each > 1 else torch.arange(len(data.held_labels))
    rows = data.held[index] if isinstance(data.held, Tensor) else [data.held[i] for i in index.tolist()]
    return rows, data.held_labels[index]
