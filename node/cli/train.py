"""``vasculum train``: makes the models that come with the pipelines. Not needed to run a node."""

import importlib.util
from pathlib import Path

import click

from node.cli.errors import CommandFailed, UserError
from runners.errors import PipelineUnavailable


@click.group()
def train() -> None:
    """Make a model of the pipelines anew; needs the extra "train" (torch, onnx)."""


@train.command("segment", epilog="Example: vasculum train segment --data masks/ --out specimen.onnx")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False, exists=True), required=True,
              help="Folder with images/ and masks/ ; boxes.tsv and labels/ if you have them.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True,
              help="The model (ONNX); weights, report and answers of the folds are written beside it.")  # fmt: skip
@click.option("--encoder", type=click.Path(path_type=Path, dir_okay=False, exists=True),
              help="ImageNet weights of EfficientNet-Lite0 to begin with.")  # fmt: skip
@click.option("--base-steps", type=click.IntRange(min=2), default=2600, show_default=True,
              help="Steps on made pictures.")  # fmt: skip
@click.option("--tune-steps", type=click.IntRange(min=2), default=360, show_default=True,
              help="Steps of a fold on real and made pictures.")  # fmt: skip
@click.option("--pictures", type=click.IntRange(min=2), default=1800, show_default=True,
              help="Made pictures for the base; 2.4 MB of memory each.")  # fmt: skip
@click.option("--mixed-pictures", type=click.IntRange(min=2), default=1700, show_default=True,
              help="Made pictures with cut-outs of real specimens, for the folds; as much memory.")  # fmt: skip
@click.option("--batch", type=click.IntRange(min=2), default=24, show_default=True, help="Pictures in a step.")
@click.option("--folds", type=click.IntRange(min=1), default=9, show_default=True, help="Parts to hold out in turn.")
@click.option("--seed", type=click.IntRange(min=0), default=6, show_default=True, help="Of everything random.")
@click.option("--processes", type=click.IntRange(min=1), default=1, show_default=True, help="That make pictures.")
def segment(
    data: Path, out: Path, encoder: Path | None, base_steps: int, tune_steps: int, pictures: int,
    mixed_pictures: int, batch: int, folds: int, seed: int, processes: int,
) -> None:  # fmt: skip
    """Train the network of "segment" and "objects" on made pictures and on the masks in --data.

    The defaults are those of the model that comes with this version. Minutes on a GPU, days on two cores.
    """
    missing = [name for name in ("torch", "onnx") if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandFailed(f'{missing[0]} is missing: pip install "vasculum[train]"')
    from runners.training.segment import Settings
    from runners.training.segment import train as run_training

    settings = Settings(
        seed=seed, plain_pictures=pictures, mixed_pictures=mixed_pictures, batch=batch, base_steps=base_steps,
        tune_steps=tune_steps, folds=folds, processes=processes,
    )  # fmt: skip
    try:
        report = run_training(data, out, encoder=encoder, settings=settings)
    except ValueError as error:
        raise UserError(str(error)) from error
    for scores in report.held_out.values():
        click.echo(f"{scores['name']}  not seen, overlap {scores['iou']}")
    click.echo(f"{out}: {out.stat().st_size} bytes")


@train.command("export-embed", epilog="Example: vasculum train export-embed")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder to write to; usual: where it is shipped."
)
def export_embed(out: Path | None) -> None:
    """Write the embedding network (EfficientNet-Lite0) from its published weights as ONNX."""
    from runners.pipelines.embed import FOLDER
    from runners.training.export_embed import export_embed as export

    try:
        done = export(out or FOLDER)
    except PipelineUnavailable as error:
        raise CommandFailed(str(error)) from error
    click.echo(
        f"{done.size_bytes:,} bytes, SHA-256 {done.sha256}; largest difference from Torch {done.max_difference:.4f}"
    )


@train.command("kind", epilog="Example: vasculum train kind ../shared/data benchmarks/truth/kind.tsv")
@click.argument("images", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("truth", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def kind(images: Path, truth: Path) -> None:
    """Train the classifier of kinds on pictures below IMAGES whose SHA-256 stands in TRUTH, and on made ones."""
    from runners.training.train_kind import fit, made_examples, real_examples, write_model

    try:
        real = real_examples(images, truth)
        size = write_model(fit(real, made_examples()))
    except PipelineUnavailable as error:
        raise CommandFailed(str(error)) from error
    click.echo(f"trained on {len(real.kinds)} pictures of {len(set(real.sets))} sets; {size:,} bytes")
