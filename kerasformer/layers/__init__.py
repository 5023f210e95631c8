"""The layers, a family a file: `kerasformer.layers.mixers.attention` and its neighbours."""

from kerasformer.layers.blocks import DecoderBlock as DecoderBlock
from kerasformer.layers.blocks import EncoderBlock as EncoderBlock
from kerasformer.layers.class_attention import ClassAttentionBlock as ClassAttentionBlock
from kerasformer.layers.class_attention import ClassAttentionPooling as ClassAttentionPooling
from kerasformer.layers.embeddings.masking import MaskTokens as MaskTokens
from kerasformer.layers.embeddings.masking import RandomMasking as RandomMasking
from kerasformer.layers.embeddings.patches import PatchEmbedding as PatchEmbedding
from kerasformer.layers.embeddings.patches import PatchExtractor as PatchExtractor
from kerasformer.layers.embeddings.prefix import PrefixTokens as PrefixTokens
from kerasformer.layers.embeddings.stems import ConvolutionalStem as ConvolutionalStem
from kerasformer.layers.embeddings.stems import ResNetStem as ResNetStem
from kerasformer.layers.embeddings.tokens import TokenEmbedding as TokenEmbedding
from kerasformer.layers.feed_forward import FeedForward as FeedForward
from kerasformer.layers.feed_forward import GatedFeedForward as GatedFeedForward
from kerasformer.layers.heads.projection import ProjectionHead as ProjectionHead
from kerasformer.layers.mixers.alignment import AdditiveAttention as AdditiveAttention
from kerasformer.layers.mixers.alignment import (
    MultiplicativeAttention as MultiplicativeAttention,
)
from kerasformer.layers.mixers.attention import MultiHeadAttention as MultiHeadAttention
from kerasformer.layers.mixers.linear_attention import LinearAttention as LinearAttention
from kerasformer.layers.mixers.local_attention import LocalAttention as LocalAttention
from kerasformer.layers.mixers.sparse_attention import SparseAttention as SparseAttention
from kerasformer.layers.mixers.spatial_gating import SpatialGating as SpatialGating
from kerasformer.layers.mixers.talking_heads import TalkingHeadsAttention as TalkingHeadsAttention
from kerasformer.layers.mixers.token_mixing import FeedForwardMixing as FeedForwardMixing
from kerasformer.layers.mixers.token_mixing import TokenMixing as TokenMixing
from kerasformer.layers.mixers.window_attention import WindowAttention as WindowAttention
from kerasformer.layers.pooling import AttentionPooling as AttentionPooling
from kerasformer.layers.pooling import MeanPooling as MeanPooling
from kerasformer.layers.pooling import SequencePooling as SequencePooling
from kerasformer.layers.pooling import TokenPooling as TokenPooling
from kerasformer.layers.positions.grids import LearnedGridPositions as LearnedGridPositions
from kerasformer.layers.positions.grids import SinusoidalGridPositions as SinusoidalGridPositions
from kerasformer.layers.positions.rotary import RotaryEmbedding as RotaryEmbedding
from kerasformer.layers.positions.sequences import (
    LearnedPositionEmbedding as LearnedPositionEmbedding,
)
from kerasformer.layers.positions.sequences import (
    SinusoidalPositionEncoding as SinusoidalPositionEncoding,
)
from kerasformer.layers.residual import Residual as Residual
from kerasformer.layers.stacks import Decoder as Decoder
from kerasformer.layers.stacks import Encoder as Encoder
