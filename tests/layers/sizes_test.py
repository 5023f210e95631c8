"""The check of sizes that layers are made with."""

import numpy as np
import pytest

from kerasformer.layers.sizes import check_sizes


class CheckTest:
    def test_sizes_from_1_and_those_left_out_pass(self):
        check_sizes(hidden_dim=1, num_heads=None, key_dim=np.int64(7))

    @pytest.mark.parametrize("size", [0, -3])
    def test_the_first_below_1_is_named(self, size):
        with pytest.raises(
            ValueError, match=f"^Expected key_dim of .* 1, received key_dim={size}.$"
        ):
            check_sizes(hidden_dim=5, key_dim=size, num_heads=0)

    @pytest.mark.parametrize("size", [2.5, "4", (2, 2)])
    def test_what_is_no_integer_is_named(self, size):
        with pytest.raises(ValueError, match="^Expected key_dim to be an integer, received key_"):
            check_sizes(hidden_dim=5, key_dim=size)
