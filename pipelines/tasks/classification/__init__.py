"""The classification task: labelled images in, a model that names what is on an image out."""

from pipelines.images.models import settle as settle
from pipelines.images.run_images import leaks as leaks
from pipelines.images.run_images import own_test as own_test
from pipelines.tasks.classification.choice import resolve as resolve
from pipelines.tasks.classification.config import DEFAULTS as DEFAULTS
from pipelines.tasks.classification.config import FIXED_KEYS as FIXED_KEYS
from pipelines.tasks.classification.config import FREE_KEYS as FREE_KEYS
from pipelines.tasks.classification.config import LOCAL_KEYS as LOCAL_KEYS
from pipelines.tasks.classification.config import METRICS as METRICS
from pipelines.tasks.classification.config import PREPARED as PREPARED
from pipelines.tasks.classification.config import check as check
from pipelines.tasks.classification.config import default_config as default_config
from pipelines.tasks.classification.data import datasets as datasets
from pipelines.tasks.classification.data import show_batch as show_batch
from pipelines.tasks.classification.evaluation import card as card
from pipelines.tasks.classification.evaluation import evaluate as evaluate
from pipelines.tasks.classification.evaluation import example as example
from pipelines.tasks.classification.evaluation import serving as serving
from pipelines.tasks.classification.evaluation import validation_scorer as validation_scorer
from pipelines.tasks.classification.objective import begin as begin
from pipelines.tasks.classification.objective import build as build
from pipelines.tasks.classification.objective import finish as finish
from pipelines.tasks.classification.objective import loss as loss
from pipelines.tasks.classification.objective import metrics as metrics
from pipelines.training.task import after_step as after_step
from pipelines.training.task import write_ctranslate2 as write_ctranslate2
