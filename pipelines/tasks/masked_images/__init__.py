"""The task of masked images: images without labels in, an encoder that describes images out."""

from pipelines.images.models import settle as settle
from pipelines.images.run_images import leaks as leaks
from pipelines.images.run_images import own_test as own_test
from pipelines.tasks.masked_images.config import DEFAULTS as DEFAULTS
from pipelines.tasks.masked_images.config import FIXED_KEYS as FIXED_KEYS
from pipelines.tasks.masked_images.config import FREE_KEYS as FREE_KEYS
from pipelines.tasks.masked_images.config import LOCAL_KEYS as LOCAL_KEYS
from pipelines.tasks.masked_images.config import METRICS as METRICS
from pipelines.tasks.masked_images.config import PREPARED as PREPARED
from pipelines.tasks.masked_images.config import check as check
from pipelines.tasks.masked_images.config import default_config as default_config
from pipelines.tasks.masked_images.data import datasets as datasets
from pipelines.tasks.masked_images.data import show_batch as show_batch
from pipelines.tasks.masked_images.evaluation import card as card
from pipelines.tasks.masked_images.evaluation import evaluate as evaluate
from pipelines.tasks.masked_images.evaluation import example as example
from pipelines.tasks.masked_images.evaluation import serving as serving
from pipelines.tasks.masked_images.objective import build as build
from pipelines.tasks.masked_images.objective import loss as loss
from pipelines.tasks.masked_images.objective import metrics as metrics
from pipelines.training.task import after_step as after_step
from pipelines.training.task import begin as begin
from pipelines.training.task import finish as finish
from pipelines.training.task import resolve as resolve
from pipelines.training.task import validation_scorer as validation_scorer
from pipelines.training.task import write_ctranslate2 as write_ctranslate2
