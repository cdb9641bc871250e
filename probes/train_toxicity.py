"""Does the model tell rude, insulting or hateful text from civil text, at which layer, and better than its words do?

    python probes/train_toxicity.py --out runs/probes
    python probes/train_toxicity.py --data train.csv --format jigsaw --also test_suite_cases.csv

With `--also` the direction is tried on data sets that mean something else by toxic: comments are rude, HateCheck is
hateful towards groups.

Comments are read by the mean over their tokens, the sequence's first left out: the last token alone knows less of them
(compare_positions.py shows what the choice does).

Cost: some ten minutes on two cores for 1,000 comments. Output: a direction a method (toxicity.METHOD.safetensors), the
layer sweep toxicity_layer_sweep.png and .csv, with --also toxicity_transfer.png and .csv.
"""

from collections.abc import Sequence

from mechmsc.directions.scripts import probe_parser, run_probe


def main(argv: Sequence[str] | None = None) -> None:
    """Train, evaluate, draw, save."""
    parser = probe_parser(__doc__)
    parser.set_defaults(position="mean")
    table, paths = run_probe("toxicity", parser.parse_args(argv))
    print(table.round(3).to_string(index=False))
    print(*paths, sep="\n")


if __name__ == "__main__":
    main()
