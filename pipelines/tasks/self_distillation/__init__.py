"""The self-distillation task (DINO): images in, an encoder that describes images by vectors out."""

from pipelines.images.models import settle as settle
from pipelines.images.run_images import leaks as leaks
from pipelines.tasks.self_distillation.config import DEFAULTS as DEFAULTS
from pipelines.tasks.self_distillation.config import FIXED_KEYS as FIXED_KEYS
from pipelines.tasks.self_distillation.config import FREE_KEYS as FREE_KEYS
from pipelines.tasks.self_distillation.config import LOCAL_KEYS as LOCAL_KEYS
from pipelines.tasks.self_distillation.config import METRICS as METRICS
from pipelines.tasks.self_distillation.config import PREPARED as PREPARED
from pipelines.tasks.self_distillation.config import check as check
from pipelines.tasks.self_distillation.config import default_config as default_config
from pipelines.tasks.self_distillation.data import datasets as datasets
from pipelines.tasks.self_distillation.data import show_batch as show_batch
from pipelines.tasks.self_distillation.evaluation import card as card
from pipelines.tasks.self_distillation.evaluation import evaluate as evaluate
from pipelines.tasks.self_distillation.evaluation import example as example
from pipelines.tasks.self_distillation.evaluation import own_test as own_test
from pipelines.tasks.self_distillation.evaluation import serving as serving
from pipelines.tasks.self_distillation.evaluation import validation_scorer as validation_scorer
from pipelines.tasks.self_distillation.objective import after_step as after_step
from pipelines.tasks.self_distillation.objective import begin as begin
from pipelines.tasks.self_distillation.objective import build as build
from pipelines.tasks.self_distillation.objective import finish as finish
from pipelines.tasks.self_distillation.objective import loss as loss
from pipelines.tasks.self_distillation.objective import metrics as metrics
from pipelines.training.task import resolve as resolve
from pipelines.training.task import write_ctranslate2 as write_ctranslate2
