"""A control concept: does the model tell true from false statements, and is that another direction than harm?

    python probes/train_truth.py --data facts_true_false.csv --out runs/probes

Truth is no moral concept. A direction that is said to be moral should not be this one.

Cost: a minute or two on two cores. Output: a direction a method (truth.METHOD.safetensors), the layer sweep
truth_layer_sweep.png and .csv.
"""

from collections.abc import Sequence

from mechmsc.directions.scripts import probe_parser, run_probe


def main(argv: Sequence[str] | None = None) -> None:
    """Train, evaluate, draw, save."""
    table, paths = run_probe("truth", probe_parser(__doc__).parse_args(argv))
    print(table.round(3).to_string(index=False))
    print(*paths, sep="\n")


if __name__ == "__main__":
    main()
