"""Published systems, composed of the layers: one a file."""

from kerasformer.models.bert import BERT as BERT
from kerasformer.models.cait import CaiT as CaiT
from kerasformer.models.conv_mixer import ConvMixer as ConvMixer
from kerasformer.models.convolutional import ConvolutionalNetwork as ConvolutionalNetwork
from kerasformer.models.gcvit import GCViT as GCViT
from kerasformer.models.gmlp import GMLP as GMLP
from kerasformer.models.language_model import LanguageModel as LanguageModel
from kerasformer.models.mae import MaskedAutoencoder as MaskedAutoencoder
from kerasformer.models.mlp_mixer import MLPMixer as MLPMixer
from kerasformer.models.performer import PerformerViT as PerformerViT
from kerasformer.models.recurrent import Seq2SeqRNN as Seq2SeqRNN
from kerasformer.models.transformer import Seq2SeqTransformer as Seq2SeqTransformer
from kerasformer.models.vit import VisionTransformer as VisionTransformer
