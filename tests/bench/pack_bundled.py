"""From a finished run of the recipe to the network that comes with vidfeat.

    vidfeat train bundled --out run/
    python tests/bench/pack_bundled.py run/ -o pretrained/bundled.safetensors

The tensors are bit-identical to the run's. ``--size`` writes a different picture size, as "Fixing
the train-test resolution discrepancy" (Touvron et al., 2019) advises; 72 and 80 were no better on
the development half of the fights. Prints the hash for the model card.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vidfeat.pretrained import bundled
from vidfeat.training.network import save_network
from vidfeat.training.recipes import get_recipe
from vidfeat.weights.load import load_weights
from vidfeat.weights.statedict import tensor_hash


def main(arguments: Sequence[str] | None = None) -> str:
    """Write the file; returns the hash of its tensors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished run, or its model.safetensors")
    parser.add_argument("-o", "--output", type=Path, default=bundled.WEIGHTS_FILE)
    parser.add_argument("--size", type=int, default=bundled.INPUT_SIZE)
    options = parser.parse_args(arguments)
    loaded = load_weights(options.run, bundled.MODEL)
    recipe = get_recipe("bundled")
    data = replace(recipe.data, scale=(options.size, options.size), crop=options.size)
    tensors = loaded.state_dict
    save_network(options.output, tensors, replace(recipe, data=data), loaded.class_names or (), {})
    found = tensor_hash(tensors)
    print(found)
    return found


if __name__ == "__main__":
    main()
