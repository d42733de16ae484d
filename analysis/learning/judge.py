r"""A judge of samples: a classifier that knows nothing of the models, and features in which samples are compared with data.

    accuracy            share of samples that the judge gives the label they were asked for
    class entropy       entropy of the judge's labels over all samples, nats
    spread              mean distance of two samples of one label, in units of that of held-out data
    distinct            share of samples that differ from all before
    precision, recall, density, coverage, energy distance    see `metrics.sample_quality`

Samples are even over the labels, so the data that they are held against are too: as many held-out rows of every label, at most
100, and of texts those that are not among the training rows word for word.
"""

import math
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


class Judge:
    """A classifier of data, and features in which samples are compared: of pixels, or of a text's pieces.

    Attributes:
        accuracy: on held-out data.
    """

    def __init__(self, data: Data) -> None:
        images = isinstance(data.rows, Tensor)
        labels = data.labels.numpy()
        if images:
            self.reader: Any = StandardScaler(with_std=False)
            self.classifier: Any = SVC(gamma="scale", C=5.0, class_weight="balanced")
            reducer: Any = PCA(random_state=0)
        else:
            self.reader = TfidfVectorizer(
                analyzer="char_wb", ngram_range=(1, 4), min_df=2, sublinear_tf=True, max_features=50_000
            )
            self.classifier = LogisticRegression(C=10.0, max_iter=300, class_weight="balanced")
            reducer = TruncatedSVD(random_state=0)
        read = self.reader.fit_transform(self._plain(data.rows))
        self.classifier.fit(read, labels)
        reducer.set_params(n_components=max(1, min(FEATURES, read.shape[0] - 1, read.shape[1])))
        self.reducer = make_pipeline(reducer).fit(read)
        rows, labels_held = reference(data)
        self.held = self.features(rows)
        self.within = torch.cdist(self.held, self.held)
        self.spread = spread(self.held, labels_held)
        self.accuracy = float((self.labels(data.held) == data.held_labels).double().mean())

    def labels(self, rows: Any) -> Tensor:
        """Return the label of every row, [n]."""
        return torch.from_numpy(self.classifier.predict(self.reader.transform(self._plain(rows)))).long()

    def features(self, rows: Any) -> Tensor:
        """Return features, [n, d]."""
        return torch.from_numpy(np.asarray(self.reducer.transform(self.reader.transform(self._plain(rows))))).double()

    def measures(self, rows: Any, wanted: Tensor) -> dict[str, float]:
        """Return what is measured of samples with the labels that they were asked for, [n]."""
        found, x, y = self.labels(rows), self.features(rows), self.held
        shares = found.bincount().double() / len(found)
        keys = [tuple(row) for row in _grey(rows).tolist()] if isinstance(rows, Tensor) else list(rows)
        return {
            "accuracy": float((found == wanted).double().mean()),
            "class entropy": float(-torch.special.xlogy(shares, shares).sum()),
            "distinct": len(set(keys)) / len(keys),
            "spread": spread(x, wanted) / (self.spread or math.nan),  # where data are all alike there is no unit
            "energy distance": energy(x, y, self.within),
            **neighbours(x, y, self.within),
        }

    @staticmethod
    def _plain(rows: Any) -> Any:
        return rows.flatten(1).double().numpy() if isinstance(rows, Tensor) else list(rows)


def reference(data: Data, most: int = REFERENCE) -> tuple[Any, Tensor]:
    """Return held-out rows that are new, as many of every label, and their labels; all of them where a label has hardly any."""
    known = set() if isinstance(data.rows, Tensor) else set(data.rows)
    new = torch.tensor([isinstance(row, Tensor) or row not in known for row in data.held])
    groups = [(new & (data.held_labels == label)).nonzero()[:, 0] for label in range(len(data.names))]
    each = min(most, *(len(group) for group in groups))
    generator = torch.Generator().manual_seed(0)  # rows may be sorted
    some = [group[torch.randperm(len(group), generator=generator)[:each].sort().values] for group in groups]
    index = torch.cat(some) if each > 1 else torch.arange(len(data.held_labels))
    rows = data.held[index] if isinstance(data.held, Tensor) else [data.held[i] for i in index.tolist()]
    return rows, data.held_labels[index]


def _grey(images: Tensor) -> Tensor:
    return ((images.flatten(1) + 1) * 8).round()
