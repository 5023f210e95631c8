"""Reads the stored folders of other libraries and saves the models again, as we write them.

    python -m tests.peers.save_folders FOLDER

The next step of `make test-peers` lets the libraries load what is in FOLDER.
"""

import pathlib
import sys

from kerasformer.interop import huggingface, load

FOLDERS = pathlib.Path(__file__).parent.parent / "interop" / "folders"

if __name__ == "__main__":
    for path in sorted(FOLDERS.iterdir()):
        if path.is_dir():
            model, description = load(path)
            huggingface.save(model, pathlib.Path(sys.argv[1]) / path.name, description)
