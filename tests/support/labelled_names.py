"""Write texts over two alphabets, of which each is a label."""

import pandas as pd


def write_names(path):
    """Write 64 names over "ab" and 64 over "xy" as a .csv file of columns text and label; return its path."""
    rows = [(text, label) for label in ("ab", "xy") for text in spelled(label)]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(path, index=False)
    return path


def spelled(letters):
    return ["".join(letters[(i >> k) % 2] for k in range(3 + i % 4)) for i in range(64)]
