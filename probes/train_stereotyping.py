"""Does the model tell a sentence that stereotypes a group from its twin that does not?

    python probes/train_stereotyping.py --out runs/probes
    python probes/train_stereotyping.py --data crows_pairs_anonymized.csv --format crows_pairs

The statements are contrastive pairs, so the methods that need pairs are tried as well. The two members of a pair share
nearly all words: a bag of words finds little here, and what a probe finds is not the topic.

Cost: a few minutes on two cores. Output: a direction a method (stereotyping.METHOD.safetensors), the layer sweep
stereotyping_layer_sweep.png and .csv.
"""

from collections.abc import Sequence

from mechmsc.directions.scripts import probe_parser, run_probe


def main(argv: Sequence[str] | None = None) -> None:
    """Train, evaluate, draw, save."""
    args = probe_parser(__doc__, method="mass_mean,logistic,lda,caa,pair_svd").parse_args(argv)
    table, paths = run_probe("stereotyping", args)
    print(table.round(3).to_string(index=False))
    print(*paths, sep="\n")


if __name__ == "__main__":
    main()
