"""Transformer-Tiny on Multi30k English-German, the recipe of Wu et al. (arXiv 2105.14462).

The files lie under `$KERASFORMER_DATA/multi30k`, or where `--config.data.folder=DIR` says:
`tok/*.lc.norm.tok.{en,de}` (tokenised, lower-cased, what the published BLEU is scored on) and
`raw/*.{en,de}.gz` (as written), which `--config=multi30k_en_de:raw` trains on.

Command: `python -m apps.train --config=multi30k_en_de --workdir=runs/multi30k`

Results on test_2016_flickr, on two CPU cores, 2.09 M parameters, 4,000 steps (30 epochs):

- `multi30k_en_de`: BLEU 39.68 of the tokenised, lower-cased text (sacreBLEU, tokenize none; 39.18
  with the average of the last 10 checkpoints), chrF 64.25, in 36 minutes.
- `multi30k_en_de:raw`: sacreBLEU 39.21 (13a, cased), chrF 63.25, in 33 minutes.

It differs from the published recipe in pre-norm and a cosine schedule, which need fewer epochs.
"""

from pipelines.tasks import translation

FILES = {
    "tok": "tok/{split}.lc.norm.tok.{language}",
    "raw": "raw/{split}.{language}.gz",
}


def get_config(text="tok"):
    if text not in FILES:
        raise ValueError(f"Expected multi30k_en_de:tok or :raw, received {text!r}.")
    config = translation.default_config()
    config.data.format = "files"
    config.data.folder = "$KERASFORMER_DATA/multi30k"
    splits = {"train": "train", "validation": "val", "test": "test_2016_flickr"}
    for name, split in splits.items():
        config.data[name] = tuple(
            FILES[text].format(split=split, language=language) for language in ("en", "de")
        )
    config.data.is_tokenized = text == "tok"
    config.tokenizer.kind = "bpe"
    config.tokenizer.vocabulary_size = 6000
    config.tokenizer.normalization = "identity" if text == "tok" else "nmt_nfkc"
    config.model.variant = "tiny"
    config.model.norm_first = True
    config.train.steps = 4000
    config.train.batch_tokens = 4096
    config.train.learning_rate = 0.004
    config.train.schedule = "cosine"
    config.train.warmup_steps = 600
    config.train.validate_every = 250
    config.train.checkpoint_every = 250
    config.train.keep_checkpoints = 10
    config.weights = "last"  # After a cosine the last is better than the average.
    config.decode.beam_size = 5
    config.decode.length_penalty = "length"
    config.decode.alpha = 1.0
    return config
