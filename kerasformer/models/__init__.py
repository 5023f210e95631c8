"""Published systems, composed of the layers: one a file."""

from kerasformer.models.recurrent import Seq2SeqRNN as Seq2SeqRNN
from kerasformer.models.transformer import Seq2SeqTransformer as Seq2SeqTransformer
from kerasformer.models.vit import VisionTransformer as VisionTransformer
