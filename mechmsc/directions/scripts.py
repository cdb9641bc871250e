"""What the scripts in `probes/` share: their arguments, and the way from statements to files."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mechmsc.directions.fits import METHODS
from mechmsc.directions.probing import MAX_TOKENS, chosen_layers, summary, train_probes
from mechmsc.directions.reading import read_statements
from mechmsc.directions.transfer import transfer_table

if TYPE_CHECKING:
    import pandas
    from transformer_lens import HookedTransformer


def probe_parser(doc: str, *, method: str = "mass_mean,logistic,lda") -> argparse.ArgumentParser:
    """The arguments that every script in `probes/` takes.

    Args:
        doc: the script's docstring; its first line is the help.
        method: default of --method.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--data", help="file or folder of labelled statements; left out: the set inside the package")
    parser.add_argument("--format", help="format of --data; left out: recognised")
    parser.add_argument("--also", action="append", default=[], help="another data set to transfer to; repeatable")
    parser.add_argument("--limit", type=int, help="the first N statements")
    parser.add_argument("--model", default="smollm2-135m-instruct", help="embedded name, hub id, folder or GGUF file")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps")
    parser.add_argument("--method", default=method, help=f"of {', '.join(METHODS)}, separated by commas")
    parser.add_argument("--position", default="last", help="last, mean (of the statement's tokens) or prompt_end")
    parser.add_argument("--max-tokens", type=int, default=MAX_TOKENS, help="longer statements are cut there")
    parser.add_argument("--null", type=int, default=20, help="fits on shuffled labels a method")
    parser.add_argument("--seed", type=int, default=0, help="of folds, fits and nulls")
    parser.add_argument("--out", default="runs/probes", help="folder for directions, tables and figures")
    return parser


def run_probe(concept: str, args: argparse.Namespace) -> "tuple[pandas.DataFrame, list[Path]]":
    """One concept from statements to files: directions, table and layer sweep; with --also a transfer matrix.

    Args:
        concept: a name in `statements.CONCEPTS`.
        args: parsed by `probe_parser`.

    Returns:
        The summary, and the files written.
    """
    from mechmsc.figures.direction_maps import draw_transfer
    from mechmsc.figures.layer_sweep import draw_layer_sweep
    from mechmsc.figures.saving import save_figure
    from mechmsc.model import load_model
    from mechmsc.statements import load_statements

    statements = load_statements(concept, path=args.data, format=args.format, limit=args.limit)
    others = {Path(path).name: load_statements(concept, path=path, limit=args.limit) for path in args.also}
    model = load_model(args.model, device=args.device)
    settings = {"position": args.position, "max_tokens": args.max_tokens}
    methods = args.method.split(",")
    directions, table, activations = train_probes(
        model, statements, methods=methods, n_null=args.null, seed=args.seed, **settings
    )
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / f"{concept}.{name}.safetensors" for name in directions]
    for path, direction in zip(paths, directions.values(), strict=True):
        direction.save(path)
    chosen = chosen_layers(directions)
    said = caption(model.mechmsc.identity.name, statements, args.position, args.seed)
    figure = draw_layer_sweep(table, concept=concept, chosen=chosen, caption=said)
    paths += save_figure(figure, table, out, f"{concept}_layer_sweep")
    if others:
        sets = {_source(statements): (activations, statements)}
        sets |= {name: (read_statements(model, frame, **settings), frame) for name, frame in others.items()}
        plain = {name: METHODS[name] for name in directions if METHODS[name].needs == "plain"}
        found = transfer_table(sets, methods=plain, seed=args.seed)
        figure = draw_transfer(found, concept=concept, layers=chosen, caption=said)
        paths += save_figure(figure, found, out, f"{concept}_transfer")
    return summary(table, chosen), paths


def store_probe(
    model: "HookedTransformer",
    statements: "pandas.DataFrame",
    *,
    out: str | Path,
    method: str = "mass_mean",
    position: str = "last",
    context: str = "chat",
    seed: int = 0,
    progress: bool = True,
) -> "tuple[pandas.DataFrame, list[Path]]":
    """One method's direction in a file, and beside it the layer sweep that says whether to believe it.

    Args:
        model: from `load_model`.
        statements: from `load_statements`.
        out: file of the direction, .safetensors; the sweep has the same name and ends in _layer_sweep.png and .csv.
        method: a key of `METHODS`.
        position: where statements are read.
        context: `chat` or `raw`.
        seed: of folds, fits and nulls.
        progress: show bars on stderr.

    Returns:
        The summary of the evaluation, and the files written.
    """
    from mechmsc.figures.layer_sweep import draw_layer_sweep
    from mechmsc.figures.saving import save_figure

    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    settings = {"position": position, "context": context, "seed": seed, "progress": progress}
    directions, table, _ = train_probes(model, statements, methods=[method], **settings)
    directions[method].save(out)
    chosen = chosen_layers(directions)
    said = caption(model.mechmsc.identity.name, statements, position, seed)
    figure = draw_layer_sweep(table, concept=directions[method].concept, chosen=chosen, caption=said)
    return summary(table, chosen), [out, *save_figure(figure, table, out.parent, f"{out.stem}_layer_sweep")]


def caption(model: str, statements: "pandas.DataFrame", position: str, seed: int) -> str:
    """The conditions that a figure of probes names."""
    positive = int(statements["label"].sum())
    return (
        f"{model}; data: {_source(statements)}, {len(statements)} statements, {positive} positive; read at position "
        f"{position!r} of a user turn; seed {seed}. What a small model holds is no evidence about large ones."
    )


def _source(statements: "pandas.DataFrame") -> str:
    """The names of the data sets, as a figure shows them."""
    return " + ".join(sorted({str(source) for source in statements["source"]}))
