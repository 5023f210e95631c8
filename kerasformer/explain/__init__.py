"""Shows what a model attends to and answers to, words or parts of an image, as arrays and pictures.

`alignment`, `rollout`, `grid_maps`, `attention_maps`, `attention_distance`, `input_gradient`,
`smoothed`, `saliency` and `unit_maps` use `keras.ops`, and the gradients of the backend, and work
inside a graph. The others work on NumPy arrays. Letters: `B` batch, `N` heads, `T`
(target) length, `S` source length, `U` units of a layer.
"""

from kerasformer.explain.crops import cell as cell
from kerasformer.explain.crops import cut_out as cut_out
from kerasformer.explain.crops import mosaic as mosaic
from kerasformer.explain.crops import receptive_field as receptive_field
from kerasformer.explain.gradients import input_gradient as input_gradient
from kerasformer.explain.gradients import saliency as saliency
from kerasformer.explain.gradients import smoothed as smoothed
from kerasformer.explain.maps import alignment as alignment
from kerasformer.explain.maps import attention_distance as attention_distance
from kerasformer.explain.maps import attention_maps as attention_maps
from kerasformer.explain.maps import grid_maps as grid_maps
from kerasformer.explain.maps import grid_of as grid_of
from kerasformer.explain.maps import rollout as rollout
from kerasformer.explain.pictures import Panel as Panel
from kerasformer.explain.pictures import draw_alignment as draw_alignment
from kerasformer.explain.pictures import draw_distances as draw_distances
from kerasformer.explain.pictures import draw_grid_maps as draw_grid_maps
from kerasformer.explain.pictures import draw_panels as draw_panels
from kerasformer.explain.units import Strongest as Strongest
from kerasformer.explain.units import find_layer as find_layer
from kerasformer.explain.units import layers_on_grid as layers_on_grid
from kerasformer.explain.units import recorded as recorded
from kerasformer.explain.units import strongest as strongest
from kerasformer.explain.units import unit_maps as unit_maps
from kerasformer.explain.words import merge_pieces as merge_pieces
from kerasformer.explain.words import word_alignment as word_alignment
