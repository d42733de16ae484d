"""A study of coherent pairs as a frame whose numbers are known."""

from analysis.frames import tidy
from analysis.study.coherent import ACCEPTED, COHERENT
from analysis.study.controls import CLAMPED
from analysis.study.samplers import SEQUENTIAL

SCALES = (0.0, 1.0, 2.0, 3.0)
ACCURACY = {ACCEPTED: (0.1, 0.7, 0.75, 0.8), COHERENT: (0.1, 0.7, 0.8, 0.9), SEQUENTIAL: (0.1, 0.7, 0.85, 0.9)}
LEARNED = {"mixture_learned": 2.0, "learned_mixture": 1.5, "beyond": 0.7, "largest": 13.0, "bound": 2.08}


def study(spread=None, seeds=3, jitter=0.01, wings=((ACCEPTED, COHERENT, SEQUENTIAL),), gap=1.0):
    """Return a frame where KL(sequential ‖ joint) is gap · γ(γ − 1), and the spread of each sampler is given."""
    rows = []
    for joint, sequential, plain in wings:
        families = dict(zip((joint, sequential, plain, CLAMPED), (*ACCURACY.values(), ACCURACY[SEQUENTIAL]), strict=True))
        for seed in range(seeds):
            shift = jitter * (seed - 1)
            for i, scale in enumerate(SCALES):
                path = 2.0 * scale
                cells = {
                    joint: {"acceptance": 1 - scale / 10, "kl bound": scale / 5, "log_z": path + gap * scale * (scale - 1)}
                }
                cells[sequential] = {"log_path": path + shift * (scale > 1)}
                for family, accuracy in families.items():
                    distance = 0.02 + 0.001 * list(families).index(family)
                    measures = {"accuracy": accuracy[i], "energy distance": distance}
                    measures["spread"] = (spread or {}).get(family, 1.0) - scale / 10
                    for name, value in (measures | cells.get(family, {})).items():
                        rows.append({"family": family, "scale": scale, "seed": seed, "quantity": name, "value": value})
            rows += [{"family": sequential, "seed": seed, "quantity": name, "value": value} for name, value in LEARNED.items()]
    return tidy(rows)
