"""Learners: what stands for a label and for none, what a row becomes, and what a job makes of its settings."""

import pytest
import torch

from analysis.files import run_folder
from analysis.learning import datasets, learners, training
from analysis.learning.datasets import Data
from analysis.learning.learners import Size
from arguide.text.training import causal_losses
from arguide.training import Recipe
from diffusion.networks import Classifier

SMALL = Size(16, 1)


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 17, (24, 1, 3, 3), generator=generator) / 8 - 1
    return Data(rows[:16], torch.arange(16) % 2, ("a", "b"), rows[16:], torch.arange(8) % 2)


@pytest.fixture(scope="module")
def texts():
    rows = [letters * k for letters in ("ab", "xy") for k in range(1, 21)]
    return Data(rows, torch.arange(2).repeat_interleave(20), ("ab", "xy"), rows, torch.arange(2).repeat_interleave(20))


def test_a_text_has_no_padding_and_a_limited_length(texts):
    learner = learners.new("lm", texts, SMALL, seed=0)
    tokens = learner.encode(["xy" * 200])
    assert tokens.shape == (1, learner.length)
    assert tokens[0, -1] != learner.end  # one that is cut off has not come to it
    assert learner.tokenizer.pad_token_id not in learner.drawn
    assert {*tokens[0].tolist()} <= {*learner.drawn}
    assert not {*learner.controls.tolist()} & {*learner.drawn}


def test_the_end_of_a_text_may_be_the_padding_token(texts):
    """As in GPT-2."""
    learner = learners.new("lm", texts, SMALL, seed=0)
    learner.tokenizer.pad_token = learner.tokenizer.eos_token
    assert learner.end in learner.drawn
    tokens = learner.encode(["xy", "abab"])
    assert {*tokens[tokens >= 0].tolist()} <= {*learner.drawn}


def test_every_label_and_no_label_has_a_prompt(texts):
    learner = learners.new("lm", texts, SMALL, seed=0)
    prompts = [learner.prompt(label).item() for label in (0, 1, None)]
    assert learner.tokenizer.convert_ids_to_tokens(prompts) == ["<ab>", "<xy>", "<any>"]


def test_decoding_inverts_encoding_of_pixels(images):
    learner = learners.new("pixels", images, SMALL, seed=0)
    tokens = learner.encode(images.rows)
    assert (int(tokens.min()), int(tokens.max())) == (0, 16)
    torch.testing.assert_close(learner.decode(tokens), images.rows)


@pytest.mark.parametrize("kind", ["lm", "denoiser"])
def test_full_dropout_trains_only_the_null_label(texts, images, kind):
    """What stands for no label learns in its place, and every label's own stays as it was."""
    recipe = Recipe(3, batch=8, dropout=1.0, decay=0.0)
    rows_of = texts if kind == "lm" else images
    learner, before = (learners.new(kind, rows_of, SMALL, seed=1) for _ in range(2))
    learners.train(learner, rows_of, recipe, seed=1)

    def rows(learner):
        told = learner.backbone.embed.label if kind == "denoiser" else learner.model.get_input_embeddings()
        return told.weight.detach()[-3:]  # two labels and none

    assert torch.equal(rows(learner)[:2], rows(before)[:2])
    assert not torch.equal(rows(learner)[2], rows(before)[2])


def test_the_held_out_loss_is_a_mean_over_rows(images):
    learner = learners.new("pixels", images, SMALL, seed=0)
    with torch.no_grad():
        for labelled, first in ((True, learner.controls[images.held_labels]), (False, learner.controls[-1:].expand(8))):
            rows = causal_losses(learner.model, learner.encode(images.held), first)
            value, error = learners.held_loss(learner, images, labelled=labelled)
            assert value == pytest.approx(float(rows.mean()))
            assert error == pytest.approx(float(rows.std()) / 8**0.5)


@pytest.mark.parametrize("kind", ["denoiser", "classifier", "clean"])
def test_the_held_out_error_is_over_rows_of_images(images, kind):
    """Each row's own loss is told by many copies of it, each with noise of its own."""
    learner = learners.new(kind.replace("clean", "classifier"), images, SMALL, seed=0, noised=kind != "clean")
    torch.nn.init.normal_(learner.backbone.last.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    images = images._replace(held=images.held * torch.arange(8).reshape(8, 1, 1, 1))  # rows that differ much
    copies = [images._replace(held=x.repeat(200, 1, 1, 1), held_labels=y.repeat(200)) for x, y in zip(*images[3:], strict=True)]
    rows = torch.tensor([learners.held_loss(learner, copy)[0] for copy in copies])
    value, error = learners.held_loss(learner, images)
    assert value == pytest.approx(float(rows.mean()), rel=0.1)
    assert error == pytest.approx(float(rows.std()) / 8**0.5, rel=0.1)


@pytest.mark.parametrize(
    ("kind", "recipe", "noised", "title"),
    [
        ("lm", Recipe(3), True, "# lm, trained with conditioning dropout"),
        ("pixels", Recipe(3, dropout=0.0), True, "# pixels, trained without conditioning dropout"),
        ("denoiser", None, True, "# denoiser, loaded and not trained here"),
        ("classifier", Recipe(3, dropout=0.0), True, "# classifier of noised images"),
        ("classifier", Recipe(3, dropout=0.0), False, "# classifier of clean images"),
    ],
)
def test_a_card_describes_its_kind(images, kind, recipe, noised, title):
    lines = learners.card(kind, datasets.Source("digits", "image"), images, recipe, {"seed": 5}, noised=noised).splitlines()
    assert title in lines
    assert "- seed: 5" in lines
    assert ("- steps: 3" in lines) is (recipe is not None)


@pytest.mark.parametrize(("kind", "width", "most"), [("lm", 12, 8), ("lm", 20, 8), ("pixels", 10, 4)])
def test_a_width_that_heads_cannot_share_is_refused(images, texts, kind, width, most):
    with pytest.raises(ValueError, match=rf"must be a multiple of {most}.*, got {width}"):
        learners.new(kind, texts if kind == "lm" else images, Size(width, 1), seed=0)


def test_a_model_of_other_images_is_not_loaded(images, texts, tmp_path):
    learners.save(learners.new("pixels", images, SMALL, seed=0), tmp_path, "")
    assert learners.load("pixels", images, tmp_path).length == 9
    with pytest.raises(ValueError, match="must be a model of images of 4 pixels, got 9"):
        learners.load("pixels", images._replace(rows=images.rows[..., :2, :2]), tmp_path)
    with pytest.raises(ValueError, match="holds no lm"):
        learners.load("lm", texts._replace(names=images.names), tmp_path)


JOB = training.Job(
    "classifier", datasets.Source("digits", "image", most=2), Recipe(40, batch=4, dropout=0.0), Size(8, 1), seed=5, noised=False
)


def test_a_job_trains_with_its_settings(tmp_path, monkeypatch):
    seen, train = {}, learners.train

    def spied(learner, *args, **options):
        seen.update(options, first=[weight.clone() for weight in learner.parameters()])
        train(learner, *args, **options)
        return [9.0] * 38 + [1.0, 2.0]

    monkeypatch.setattr(learners, "train", spied)
    told = training.run(JOB, tmp_path, iter)
    assert seen["seed"] == 5
    new = learners.new("classifier", datasets.read_images(JOB.source, seed=5), JOB.size, seed=5, noised=False)
    assert all(map(torch.equal, seen["first"], new.parameters()))
    assert not Classifier.from_pretrained(tmp_path).noised
    assert "# classifier of clean images" in (tmp_path / "README.md").read_text()
    assert told["training loss"] == 1.5  # of the last twentieth


def test_fresh_deletes_only_the_files_of_a_training(tmp_path):
    run_folder.claim(tmp_path, JOB.config(), training.PROGRAM, parts=())
    for name in ("checkpoint.pt", "result.json", "model.safetensors", "mine.txt"):
        (tmp_path / name).write_text("")
    run_folder.claim(tmp_path, {}, training.PROGRAM, parts=(), own=training.OWN, fresh=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt", "run.json"]
