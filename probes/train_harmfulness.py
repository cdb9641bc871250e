"""Does the model tell a request for something that hurts others from a harmless one, before it answers?

    python probes/train_harmfulness.py --out runs/probes
    python probes/train_harmfulness.py --data harmful_harmless --format harmful_harmless

Requests are read at `prompt_end`, the last token before the model would answer, where refusal is decided (Arditi et al.
2024, arXiv:2406.11717).

Cost: a few minutes on two cores. Output: a direction a method (harmfulness.METHOD.safetensors), the layer sweep
harmfulness_layer_sweep.png and .csv.
"""

from collections.abc import Sequence

from mechmsc.directions.scripts import probe_parser, run_probe


def main(argv: Sequence[str] | None = None) -> None:
    """Train, evaluate, draw, save."""
    parser = probe_parser(__doc__)
    parser.set_defaults(position="prompt_end")
    table, paths = run_probe("harmfulness", parser.parse_args(argv))
    print(table.round(3).to_string(index=False))
    print(*paths, sep="\n")


if __name__ == "__main__":
    main()
