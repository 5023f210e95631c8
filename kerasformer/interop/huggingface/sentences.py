"""What makes one vector of a sentence, as the folders of sentence-transformers say it."""

import json
from pathlib import Path
from typing import Any

from kerasformer.interop.files import inside, read_json

MODULES, POOLING, SENTENCES = "modules.json", "1_Pooling", "sentence_bert_config.json"
POOLS = {"cls": "class", "mean": "mean"}
OLD_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def read_modules(folder: Path) -> dict[str, Any]:
    """Reads what follows the encoder.

    Args:
        folder: path.

    Returns:
        Dict of the arguments `pool` and `normalize` of `BERT`; empty without a `modules.json`.

    Raises:
        ValueError: for other modules than a pooling and a normalisation, or another pooling.
    """
    path = Path(folder) / MODULES
    if not path.exists():
        return {}
    modules = read_json(path, list)
    kinds = [str(module.get("type")).rpartition(".")[2] for module in modules]
    known = [["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]]
    if kinds not in known:
        raise ValueError(f"Expected modules.json with modules of {known}, received {kinds}.")
    config = read_json(inside(folder, modules[1].get("path")) / "config.json")
    modes = config.get("pooling_mode", [mode for key, mode in OLD_KEYS.items() if config.get(key)])
    modes = [modes] if isinstance(modes, str) else modes
    if len(modes) != 1 or modes[0] not in POOLS:
        raise ValueError(f"Expected a pooling of {sorted(POOLS)}, received pooling_mode={modes}.")
    return {"pool": POOLS[modes[0]], "normalize": len(kinds) == 3}


def write_modules(
    folder: Path, pool: str, normalize: bool, hidden_dim: int, max_length: int
) -> None:
    """Writes what follows the encoder, so that sentence-transformers loads the folder.

    Args:
        folder: path that exists.
        pool: str. `"class"` or `"mean"`.
        normalize: bool. Whether vectors are divided by their lengths.
        hidden_dim: int. Size of a vector.
        max_length: int. Number of tokens at which longer texts are cut off.
    """
    paths = {"Transformer": "", "Pooling": POOLING, "Normalize": "2_Normalize"}
    modules = [
        {
            "idx": index,
            "name": str(index),
            "path": path,
            "type": f"sentence_transformers.models.{x}",
        }
        for index, (x, path) in enumerate(paths.items())
        if normalize or x != "Normalize"
    ]
    mode = {ours: theirs for theirs, ours in POOLS.items()}[pool]
    pooling = {"word_embedding_dimension": hidden_dim}
    # Of all versions of the library, because new ones read the old keys too.
    pooling.update({key: theirs == mode for key, theirs in OLD_KEYS.items()})
    contents = {
        SENTENCES: {"max_seq_length": max_length, "do_lower_case": False},
        f"{POOLING}/config.json": pooling,
        MODULES: modules,
    }
    (Path(folder) / POOLING).mkdir(exist_ok=True)
    if normalize:
        (Path(folder) / paths["Normalize"]).mkdir(exist_ok=True)
    for name, content in contents.items():
        text = json.dumps(content, indent=2) + "\n"
        (Path(folder) / name).write_text(text, encoding="utf-8")
