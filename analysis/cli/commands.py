"""Collect the commands of `arguide`, and print its version."""

from typing import Annotated

import typer

from analysis.cli import exact, generate, options, published, reproduce, scale_factors, study, temperature, train

app = typer.Typer(
    name="arguide",
    help="Guidance of autoregressive and diffusion models: sequential against joint, measured and corrected.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        import arguide

        print(f"arguide {arguide.__version__}")
        raise typer.Exit


VERSION = typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)


@app.callback()
def _root(version: Annotated[bool, VERSION] = False) -> None:
    del version


for name, command, summary in (
    ("reproduce", reproduce.reproduce, "Run the whole argument and write the report."),
    ("exact", exact.exact, "Compute the exact laws of your own distribution."),
    ("generate", generate.generate, "Generate text under guidance."),
    ("scale-factors", scale_factors.scale_factors, "Measure the scale factors of text."),
    ("published", published.published, "Compute published numbers again."),
    ("temperature", temperature.temperature, "Compare the ways to lower a temperature."),
    ("train", train.train, "Train a model with conditioning dropout."),
    ("study", study.study, "Train both wings on your data and compare them."),
):
    app.command(name, short_help=summary)(options.bounded(command))
