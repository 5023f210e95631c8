"""Keras 3 layers through which both words and pixels flow, and the models made of them."""

from kerasformer import decoding as decoding
from kerasformer import layers as layers
from kerasformer import losses as losses
from kerasformer import models as models
from kerasformer import schedules as schedules

__version__ = "0.1.0"
