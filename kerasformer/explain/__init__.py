"""Shows what a model attends to, words or parts of an image, as arrays and pictures.

`alignment`, `rollout` and `grid_maps` use `keras.ops` alone and work inside a graph. The others
work on NumPy arrays. Letters: `B` batch, `N` heads, `T` (target) length, `S` source length.
"""

from kerasformer.explain.maps import alignment as alignment
from kerasformer.explain.maps import grid_maps as grid_maps
from kerasformer.explain.maps import rollout as rollout
from kerasformer.explain.pictures import draw_alignment as draw_alignment
from kerasformer.explain.pictures import draw_grid_maps as draw_grid_maps
from kerasformer.explain.words import merge_pieces as merge_pieces
from kerasformer.explain.words import word_alignment as word_alignment
