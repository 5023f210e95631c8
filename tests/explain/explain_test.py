"""Tests of alignments: from attention to pieces, from pieces to words, from words to a picture."""

import builtins
import os

import keras
import matplotlib.image
import numpy as np
import pytest

from kerasformer import explain, layers
from tests.backend import needs_tensorflow, tf

if tf:
    from kerasformer.tokenizers import SentencePieceTokenizer, train_sentencepiece

B, N, T, S = 2, 3, 5, 7
TEXT = ["der große Hund schläft", "die Straßen sind naß", "ein Hund und noch ein Hund"]


def probabilities(*shape):
    values = np.random.default_rng(11).random(shape, "float32")
    return values / values.sum(axis=-1, keepdims=True)


class AlignmentTest:
    def test_heads_of_the_last_but_one_layer_are_averaged(self):
        scores = [probabilities(B, N, T, S) ** power for power in (3, 2, 1)]
        found = keras.ops.convert_to_numpy(explain.alignment(scores))
        np.testing.assert_allclose(found, scores[1].mean(axis=1), rtol=1e-6)

    def test_a_single_layer_is_taken(self):
        scores = [probabilities(B, N, T, S)]
        found = keras.ops.convert_to_numpy(explain.alignment(scores))
        np.testing.assert_allclose(found, scores[0].mean(axis=1), rtol=1e-6)

    def test_layers_count_from_both_ends(self):
        scores = [probabilities(B, N, T, S) ** power for power in (3, 2, 1)]
        np.testing.assert_array_equal(
            explain.alignment(scores, layer=0), explain.alignment(scores, layer=-3)
        )

    @pytest.mark.parametrize(("count", "layer"), [(2, 2), (2, -3), (1, 1), (1, -3), (0, -2)])
    def test_a_layer_that_is_not_there_is_named(self, count, layer):
        with pytest.raises(ValueError, match=f"{count} of scores, received layer={layer}"):
            explain.alignment([probabilities(B, N, T, S)] * count, layer=layer)

    @needs_tensorflow
    def test_a_graph_of_unknown_sizes_gives_what_eager_code_gives(self):
        scores = [probabilities(B, N, T, S), probabilities(B, N, T, S)]
        spec = tf.TensorSpec((None, None, None, None))
        graph = tf.function(lambda *given: explain.alignment(given), input_signature=[spec] * 2)
        np.testing.assert_allclose(graph(*scores), explain.alignment(scores), rtol=1e-6)

    def test_rows_sum_to_one_in_float32_from_a_half_precision_decoder(self):
        decoder = layers.Decoder(2, 12, N, 13, dtype="mixed_bfloat16")
        _, scores = decoder(
            keras.random.normal((B, T, 12)),
            keras.random.normal((B, S, 12)),
            return_attention_scores=True,
        )
        found = explain.alignment(scores)
        assert found.shape == (B, T, S)
        assert keras.backend.standardize_dtype(found.dtype) == "float32"
        np.testing.assert_allclose(keras.ops.sum(found, axis=-1), np.ones((B, T)), atol=0.02)


class RolloutTest:
    def test_it_is_the_product_of_the_layers_with_their_residuals(self):
        scores = [probabilities(B, N, T, T) ** power for power in (1, 2, 3)]
        scores = [x / x.sum(axis=-1, keepdims=True) for x in scores]
        found = keras.ops.convert_to_numpy(explain.rollout(scores))
        first, second, third = ((x.mean(axis=1) + np.eye(T)) / 2 for x in scores)
        np.testing.assert_allclose(found, third @ second @ first, rtol=1e-5)
        np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=1e-5)

    def test_an_encoder_whose_positions_do_not_mix_reads_each_from_itself(self):
        scores = [np.broadcast_to(np.eye(T, dtype="float32"), (B, N, T, T))] * 3
        np.testing.assert_array_equal(explain.rollout(scores), [np.eye(T)] * B)

    def test_padding_is_not_read(self):
        encoder = layers.Encoder(2, 12, N, 13)
        mask = np.arange(T) < np.array([[T], [3]])
        inputs = keras.random.normal((B, T, 12))
        _, scores = encoder(inputs, mask=mask, return_attention_scores=True)
        found = keras.ops.convert_to_numpy(explain.rollout(scores))
        assert np.all(found[1, :3, 3:] == 0)
        assert np.all(found[0] > 0)

    def test_words_get_a_matrix_of_it(self):
        pieces = ["▁a", "b", "▁c", "▁d", "</s>"]
        joined = np.array(explain.rollout([probabilities(B, N, T, T)])[0])
        matrix, source, target = explain.word_alignment(joined, pieces, pieces)
        assert source == target == ["ab", "c", "d"]
        np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-6)


class GridMapsTest:
    def test_the_class_token_reads_when_there_is_one(self):
        attention = probabilities(B, N, 2 + 15, 2 + 15)
        maps = np.array(explain.grid_maps(attention, (3, 5), num_prefix_tokens=2))
        assert maps.shape == (B, N, 3, 5)
        np.testing.assert_array_equal(maps[1, 2, 2, 4], attention[1, 2, 0, -1])
        np.testing.assert_array_equal(maps[0, 1, 0], attention[0, 1, 0, 2:7])

    def test_otherwise_all_patches_do_on_average(self):
        attention = probabilities(B, 15, 15)
        maps = np.array(explain.grid_maps(attention, (3, 5)))
        np.testing.assert_allclose(maps.reshape(B, 15), attention.mean(axis=1), rtol=1e-6)
        np.testing.assert_allclose(maps.sum(axis=(1, 2)), 1, rtol=1e-5)

    @needs_tensorflow
    def test_a_graph_of_unknown_batch_gives_what_eager_code_gives(self):
        scores = [probabilities(B, N, 16, 16), probabilities(B, N, 16, 16)]
        spec = tf.TensorSpec((None, N, 16, 16))
        graph = tf.function(
            lambda *given: explain.grid_maps(explain.rollout(given), (3, 5), 1),
            input_signature=[spec] * 2,
        )
        expected = explain.grid_maps(explain.rollout(scores), (3, 5), 1)
        np.testing.assert_allclose(graph(*scores), expected, rtol=1e-5)

    def test_another_grid_is_named(self):
        with pytest.raises(ValueError, match=r"16 positions for grid_size=\(3, 5\) .* received 15"):
            explain.grid_maps(probabilities(B, 15, 15), (3, 5), num_prefix_tokens=1)


class DrawGridMapsTest:
    def test_the_map_brightens_what_was_read(self, tmp_path):
        path = tmp_path / "picture.png"
        heat = np.zeros((2, 2))
        heat[0, 1] = 1
        explain.draw_grid_maps(np.full((8, 8, 3), 128, "uint8"), heat, path)
        light = matplotlib.image.imread(path)[..., :3].sum(axis=-1)
        rows, columns = light.shape
        right = light[:, columns // 2 :]
        quarters = [
            np.median(half)
            for side in np.array_split(right, 2, axis=1)
            for half in np.array_split(side, 2)
        ]
        assert np.argmax(quarters) == 2  # left above, left below, right above, right below

    @pytest.mark.parametrize(("count", "channels"), [(1, 1), (3, 4), (7, 3)])
    def test_every_map_gets_a_panel_and_a_title(self, tmp_path, channels, count):
        path = tmp_path / "picture.svg"
        image = np.random.default_rng(0).random((5, 11, channels))
        titles = [f"head {i} $_{{" for i in range(count)]
        explain.draw_grid_maps(image, np.random.default_rng(1).random((count, 2, 3)), path, titles)
        # An image and the map over it are stored as one; the scale of colours is another one.
        assert path.read_text().count("<image") == 1 + count + 1

    def test_a_scale_says_which_share_a_colour_is(self, tmp_path, monkeypatch):
        figures = []
        monkeypatch.setattr(explain.pictures, "_save", lambda figure, path: figures.append(figure))
        maps = np.random.default_rng(1).random((3, 2, 5))
        explain.draw_grid_maps(np.ones((4, 20, 3)), maps, tmp_path / "a.png")
        *panels, scale = figures[0].axes
        assert "share of the attention, %" in scale.get_ylabel()
        ranges = [panel.images[1].get_clim() for panel in panels[1:]]
        np.testing.assert_allclose(ranges, [(0, 100 * maps.max())] * 3)
        # Several rows, and no strip.
        for image in (np.ones((4, 200, 3)), np.ones((200, 4, 3))):
            explain.draw_grid_maps(image, maps, tmp_path / "a.png")
        for figure in figures:
            width, height = figure.get_size_inches()
            assert 1 / 3 < width / height < 3
        explain.draw_grid_maps(np.ones((4, 4, 3)), np.ones((97, 2, 2)), tmp_path / "a.png")
        assert max(figures[-1].get_size_inches()) * 120 < 2000

    @pytest.mark.parametrize(
        ("image", "maps", "message"),
        [
            (np.ones((5, 7)), np.ones((2, 3)), r"image.shape=\(5, 7\)"),
            (np.ones((5, 7, 2)), np.ones((2, 3)), r"image.shape=\(5, 7, 2\)"),
            (np.ones((5, 7, 3)), np.ones((1, 2, 2, 3)), r"maps.shape=\(1, 2, 2, 3\)"),
        ],
    )
    def test_what_cannot_be_drawn_is_named(self, tmp_path, image, maps, message):
        with pytest.raises(ValueError, match=message):
            explain.draw_grid_maps(image, maps, tmp_path / "a.png")
        assert not os.listdir(tmp_path)


class MergePiecesTest:
    @needs_tensorflow
    def test_words_are_those_of_the_text_for_a_real_tokenizer(self):
        tokenizer = SentencePieceTokenizer(train_sentencepiece(TEXT * 3, 285))
        for text in [*TEXT, "naß 👩‍👧 日本語 €uro", "🇩🇪"]:
            pieces = [tokenizer.vocabulary[i] for i in tokenizer.encode([text])[0]]
            words, groups = explain.merge_pieces(pieces)
            assert words == text.split()
            assert sum(groups, []) == list(range(len(pieces)))

    def test_special_pieces_and_padding_belong_to_no_word(self):
        pieces = ["<s>", "▁a", "b", "</s>", "<pad>", "", "▁c"]
        assert explain.merge_pieces(pieces) == (["ab", "c"], [[1, 2], [6]])

    def test_an_unknown_piece_is_shown_within_its_word(self):
        assert explain.merge_pieces(["▁a", "<unk>", "b"]) == (["a⁇b"], [[0, 1, 2]])

    def test_bytes_are_joined_to_characters_and_broken_ones_are_marked(self):
        pieces = ["▁", "<0xE2>", "<0x82>", "<0xAC>", "▁x", "<0xE2>", "y"]
        assert explain.merge_pieces(pieces) == (["€", "x\ufffdy"], [[0, 1, 2, 3], [4, 5, 6]])

    def test_a_lone_marker_goes_with_a_neighbour(self):
        assert explain.merge_pieces(["▁", "▁a", "▁"]) == (["a"], [[0, 1, 2]])
        assert explain.merge_pieces(["▁"]) == ([], [])

    def test_the_marker_may_be_another_and_nothing_gives_nothing(self):
        assert explain.merge_pieces(["_a", "b", "_c"], marker="_")[0] == ["ab", "c"]
        assert explain.merge_pieces([]) == ([], [])

    def test_text_without_a_first_marker_is_one_word(self):
        assert explain.merge_pieces(["a", "ß"]) == (["aß"], [[0, 1]])

    def test_each_piece_is_a_word_where_a_script_writes_no_spaces(self):
        pieces = ["▁", "日本", "で", "x", "y", "。", "▁ไทย", "ครู", "<0xE6>", "<0x97>", "<0xA5>"]
        words, groups = explain.merge_pieces(pieces)
        assert words == ["日本", "でxy。", "ไทย", "ครู日"]
        assert groups == [[0, 1], [2, 3, 4, 5], [6], [7, 8, 9, 10]]
        assert explain.merge_pieces(["▁한국", "어"])[0] == ["한국어"]


class WordAlignmentTest:
    SOURCE = ["▁the", "▁dog", "s", "▁sle", "ep", "</s>", ""]
    TARGET = ["▁Hund", "e", "▁schlafen", "</s>", ""]

    def test_sources_are_summed_and_targets_averaged(self):
        pieces = probabilities(T, S)
        matrix, source, target = explain.word_alignment(pieces, self.SOURCE, self.TARGET)
        assert (source, target) == (["the", "dogs", "sleep"], ["Hunde", "schlafen"])
        rows = np.stack([(pieces[0] + pieces[1]) / 2, pieces[2]])
        expected = np.stack([rows[:, 0], rows[:, 1:3].sum(1), rows[:, 3:5].sum(1)], axis=1)
        expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(matrix, expected, rtol=1e-5)
        np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-6)

    def test_end_and_padding_change_nothing_but_the_scale(self):
        pieces = probabilities(T, S)
        before = explain.word_alignment(pieces, self.SOURCE, self.TARGET)[0]
        pieces[:, 5:] = 0
        pieces[3:] = 0
        after = explain.word_alignment(pieces, self.SOURCE, self.TARGET)[0]
        np.testing.assert_array_equal(before, after)

    def test_a_row_that_reads_the_end_alone_is_zero_and_not_nan(self):
        pieces = probabilities(T, S)
        pieces[2] = np.eye(S)[5]
        matrix = explain.word_alignment(pieces, self.SOURCE, self.TARGET)[0]
        np.testing.assert_array_equal(matrix[1], [0, 0, 0])

    def test_sentences_without_words_give_an_empty_matrix(self):
        matrix, source, target = explain.word_alignment(np.ones((1, 2)), ["▁a", "</s>"], ["</s>"])
        assert matrix.shape == (0, 1)
        assert (source, target) == (["a"], [])

    def test_a_wrong_number_of_pieces_is_named(self):
        with pytest.raises(ValueError, match=r"\(5, 7\), received alignment.shape=\(7, 5\)"):
            explain.word_alignment(probabilities(S, T), self.SOURCE, self.TARGET)


class DrawAlignmentTest:
    def test_darkness_follows_the_matrix(self, tmp_path):
        path = tmp_path / "picture.png"
        explain.draw_alignment(np.eye(2), ["a", "b"], ["c", "d"], path)
        light = matplotlib.image.imread(path)[..., :3].sum(axis=-1)
        dark = np.argwhere(light < 1.1)  # the dark blue of 1; letters are dark too, but thin
        rows, columns = light.shape
        middle = np.median(dark, axis=0)
        upper = dark[dark[:, 0] < middle[0]]
        lower = dark[dark[:, 0] > middle[0]]
        assert np.median(upper[:, 1]) < middle[1] < np.median(lower[:, 1])
        assert len(dark) > rows * columns / 8

    def test_the_picture_grows_with_the_labels_but_not_without_end(self, tmp_path):
        sizes = []
        for count in (3, 41, 211, 997):
            labels = [f"w{i}" for i in range(count)]
            path = tmp_path / f"{count}.png"
            explain.draw_alignment(np.eye(count, 5), list("abcde"), labels, path)
            sizes.append(matplotlib.image.imread(path).shape[0])
        assert sizes[0] < sizes[1] < sizes[2]
        assert sizes[3] < 1.1 * sizes[2]
        assert sizes[1] > 41 * 30  # pixels for a label
        assert sizes[3] < 2000

    @pytest.mark.parametrize("kind", ["png", "svg", "pdf", "PNG"])
    def test_hard_labels_are_drawn_without_a_warning(self, tmp_path, kind):
        words = [
            "مرحبا",
            "שלום",
            "👩‍👩‍👧‍👦",
            "日本語",
            "$a_{$",
            "\ud800",
            "a\nb\t",
            "x" * 997,
            "",
            "⁇",
        ]
        path = tmp_path / f"picture.{kind}"
        explain.draw_alignment(np.eye(len(words)), words, words[::-1], path, title="$\\x$ 日本")
        assert path.stat().st_size > 1000
        assert os.listdir(tmp_path) == [path.name]

    def test_a_picture_that_was_there_is_replaced_whole_or_not_at_all(self, tmp_path, monkeypatch):
        path = tmp_path / "picture.png"
        explain.draw_alignment(np.eye(2), "ab", "cd", path)
        before = path.read_bytes()

        def full(*_):
            raise OSError("No space left on device")

        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space"):
            explain.draw_alignment(np.eye(3), "abc", "def", path)
        monkeypatch.undo()
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["picture.png"]
        explain.draw_alignment(np.eye(3), "abc", "def", path)
        assert path.read_bytes() != before

    @pytest.mark.parametrize(
        ("matrix", "name", "message"),
        [
            (np.eye(3), "a.png", r"\(2, 2\).*received matrix.shape=\(3, 3\)"),
            (np.eye(2), "a.doc", "'.png'.*received path="),
            (np.eye(2), "picture", "'.png'.*received path="),
        ],
    )
    def test_what_cannot_be_drawn_is_named(self, tmp_path, matrix, name, message):
        with pytest.raises(ValueError, match=message):
            explain.draw_alignment(matrix, "ab", "cd", tmp_path / name)
        assert not os.listdir(tmp_path)

    def test_an_empty_matrix_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="neither of them 0"):
            explain.draw_alignment(np.zeros((0, 2)), "ab", "", tmp_path / "a.png")

    def test_without_matplotlib_the_error_says_how_to_install_it(self, tmp_path, monkeypatch):
        find = builtins.__import__

        def missing(name, *rest):
            if name.startswith("matplotlib"):
                raise ImportError(name)
            return find(name, *rest)

        monkeypatch.setattr(builtins, "__import__", missing)
        with pytest.raises(ImportError, match="pip install"):
            explain.draw_alignment(np.eye(2), "ab", "cd", tmp_path / "a.png")
