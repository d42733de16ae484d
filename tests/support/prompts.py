"""A file of prompts in every format, with cells that look like numbers, dates and missing values."""

import json

import pandas as pd

PROMPTS = ["one", "two and more", "NA", "four", "5", "2020-01-01", "seven, with a comma"]
NEGATIVES = ["bad", None, "worse", None, "", "x", None]
SCALES = [1.0, 2.0, None, 0.0, 3.0, None, 1.5]


def write_prompts(folder, kind, columns=True):
    frame = pd.DataFrame({"prompt": PROMPTS})
    path = folder / f"prompts.{kind}"
    if columns:
        frame = frame.assign(negative=NEGATIVES, scale=SCALES, kept=range(7))
    if kind == "txt":
        path.write_text("\n".join(PROMPTS[:3]) + "\n\n" + "\n".join(PROMPTS[3:]) + "\n")
    elif kind == "csv":
        frame.to_csv(path, index=False)
    elif kind in ("json", "jsonl"):
        rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
        path.write_text(json.dumps(rows) if kind == "json" else "".join(json.dumps(row) + "\n" for row in rows))
    else:
        frame.to_parquet(path)
    return path
