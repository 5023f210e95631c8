"""Own data of every kind go from files to an export and its answer by one command each."""

import json

import pytest

from tests import own_pictures, own_words, programs

pytestmark = pytest.mark.integration

# What makes each step short; a user leaves it out.
SHORT = ["train.warmup_steps=1", "train.validate_every=100%", "train.checkpoint_every=100%"]
SHORT += ["model.num_layers=1", "model.hidden_dim=12", "model.num_heads=3", "train.steps=9"]
SHORT += ["model.intermediate_dim=13", "train.precision=float32"]
SHORT_WORDS = [*SHORT, "decode.max_extra=3"]
SHORT_PICTURES = [*SHORT, "model.variant=ViT-Lite-6/4", "model.patch_size=8"]


def use(config, folder, keys, answer):
    """Trains, evaluates, exports and asks, as from a shell; returns scores and answers."""
    flags = [f"--config.{key}" for key in (f"data.folder={folder}", *keys)]
    found = programs.run(
        ["train", f"--config={config}", "--workdir=run", *flags],
        ["evaluate", "--workdir=run"],
        ["export", "--workdir=run"],
        ["predict", "--model=run/export", *answer],
        folder=folder.parent,
    )
    for done in found:
        assert done.returncode == 0, (done.args, done.stderr[-3000:])
    return json.loads(found[1].stdout), found[3].stdout.splitlines()


@pytest.mark.parametrize("kind", own_words.KINDS, ids=lambda kind: kind.__name__)
def test_sentence_pairs_become_a_translator(kind, tmp_path):
    folder = tmp_path / "pairs"
    folder.mkdir()
    pairs = kind(folder)
    scores, answers = use("my_translation", folder, SHORT_WORDS, ["--", pairs[0][0], pairs[1][0]])
    assert scores["sentences"] >= 7 and len(answers) == 2
    assert ("tok:zh" in scores["signature"]) == (kind in (own_words.chinese, own_words.spreadsheet))


OBLONG, SQUARE = "model.image_size=(24, 40)", "model.image_size=32"
PICTURES = {
    "camera pictures from a Mac, three to a class": (own_pictures.zip_from_a_mac, SQUARE, 9),
    "oblong ones": (own_pictures.zip_from_a_mac, OBLONG, 9),
    "X-rays of a spreadsheet": (own_pictures.spreadsheet_of_xrays, SQUARE, 12),
    "folders of splits": (own_pictures.split_folders, SQUARE, 18),
}


@pytest.mark.parametrize(("kind", "size", "count"), PICTURES.values(), ids=PICTURES)
def test_pictures_become_a_classifier(kind, size, count, tmp_path):
    folder = tmp_path / "pictures"
    kind(folder)
    scores, answers = use("my_images", folder, [*SHORT_PICTURES, size], [folder])
    assert 0 <= scores["top1"] <= 1 and len(answers) == count
