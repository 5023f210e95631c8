"""Reads models of other libraries and saves them again, as we write them.

    python -m tests.peers.save_folders FOLDER

writes FOLDER/NAME for each stored folder of `make_folders.py`, and FOLDER/sentences for the model
of `sentences.py`, with our vectors of its sentences. The next steps of `make test-peers` let the
libraries load them.
"""

import pathlib
import sys

import numpy as np

from kerasformer.interop import huggingface, load
from kerasformer.interop.files import read_json

FOLDERS = pathlib.Path(__file__).parent.parent / "interop" / "folders"


def main(folder):
    sources = {path.parent.name: path.parent for path in sorted(FOLDERS.glob("*/config.json"))}
    # Those of timm have no `model_type`, and are only read.
    sources = {
        name: path
        for name, path in sources.items()
        if read_json(path / "config.json").get("model_type") in huggingface.BY_TYPE
    }
    sample = folder / "sentences.npz"
    if sample.exists():
        sources["sentences"] = pathlib.Path(str(np.load(sample)["model"]))
    for name, source in sources.items():
        model, description = load(source)
        huggingface.save(model, folder / name, description)
        if name == "sentences":
            vectors = model(np.load(sample)["token_ids"])
            np.savez(folder / "our_sentences.npz", vectors=np.array(vectors))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
