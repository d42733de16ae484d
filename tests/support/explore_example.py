"""Write `docs/explore/example.json`: texts of the tiny model of toy stories, as the command writes them for any model.

python tests/support/explore_example.py
"""

import sys
import tempfile
from pathlib import Path

from analysis import cli
from analysis.learning import toy_stories

PLACE = Path(__file__).parents[2] / "docs" / "explore" / "example.json"
OPTIONS = ("--prompt", "Lily had a dog .", "--negative", "Lily had a pet .", "--scale", "1.5", "--max-new-tokens", "16")
NUMBERS = ("--samples", "512", "--particles", "1024")


def main():
    PLACE.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "toy-stories"
        toy_stories.train(300).save_pretrained(model)
        toy_stories.tokenizer().save_pretrained(model)
        sys.argv = ["arguide", "scale-factors", str(model), *OPTIONS, *NUMBERS, "--explore", str(PLACE)]
        cli.main()


if __name__ == "__main__":
    main()
