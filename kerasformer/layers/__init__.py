"""The layers, a family a file: `kerasformer.layers.attention` and its neighbours."""

from kerasformer.layers.attention import MultiHeadAttention as MultiHeadAttention
from kerasformer.layers.blocks import DecoderBlock as DecoderBlock
from kerasformer.layers.blocks import EncoderBlock as EncoderBlock
from kerasformer.layers.embeddings import TokenEmbedding as TokenEmbedding
from kerasformer.layers.feed_forward import FeedForward as FeedForward
from kerasformer.layers.feed_forward import GatedFeedForward as GatedFeedForward
from kerasformer.layers.positions import LearnedPositionEmbedding as LearnedPositionEmbedding
from kerasformer.layers.positions import RotaryEmbedding as RotaryEmbedding
from kerasformer.layers.positions import SinusoidalPositionEncoding as SinusoidalPositionEncoding
from kerasformer.layers.residual import Residual as Residual
from kerasformer.layers.stacks import Decoder as Decoder
from kerasformer.layers.stacks import Encoder as Encoder
