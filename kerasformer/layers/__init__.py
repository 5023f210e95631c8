"""The layers, a family a file: `kerasformer.layers.attention` and its neighbours."""

from kerasformer.layers.attention import MultiHeadAttention as MultiHeadAttention
from kerasformer.layers.blocks import DecoderBlock as DecoderBlock
from kerasformer.layers.blocks import EncoderBlock as EncoderBlock
from kerasformer.layers.embeddings import TokenEmbedding as TokenEmbedding
from kerasformer.layers.feed_forward import FeedForward as FeedForward
from kerasformer.layers.feed_forward import GatedFeedForward as GatedFeedForward
from kerasformer.layers.grid_positions import LearnedGridPositions as LearnedGridPositions
from kerasformer.layers.grid_positions import SinusoidalGridPositions as SinusoidalGridPositions
from kerasformer.layers.patches import PatchEmbedding as PatchEmbedding
from kerasformer.layers.patches import PatchExtractor as PatchExtractor
from kerasformer.layers.pooling import AttentionPooling as AttentionPooling
from kerasformer.layers.pooling import SequencePooling as SequencePooling
from kerasformer.layers.positions import LearnedPositionEmbedding as LearnedPositionEmbedding
from kerasformer.layers.positions import RotaryEmbedding as RotaryEmbedding
from kerasformer.layers.positions import SinusoidalPositionEncoding as SinusoidalPositionEncoding
from kerasformer.layers.residual import Residual as Residual
from kerasformer.layers.stacks import Decoder as Decoder
from kerasformer.layers.stacks import Encoder as Encoder
from kerasformer.layers.stems import ConvolutionalStem as ConvolutionalStem
from kerasformer.layers.stems import ResNetStem as ResNetStem
from kerasformer.layers.tokens import PrefixTokens as PrefixTokens
