"""The translation task: sentence pairs in, a model that turns strings into strings out."""

from pipelines.tasks.translation.choice import resolve as resolve
from pipelines.tasks.translation.config import DEFAULTS as DEFAULTS
from pipelines.tasks.translation.config import FIXED_KEYS as FIXED_KEYS
from pipelines.tasks.translation.config import FREE_KEYS as FREE_KEYS
from pipelines.tasks.translation.config import LOCAL_KEYS as LOCAL_KEYS
from pipelines.tasks.translation.config import METRICS as METRICS
from pipelines.tasks.translation.config import PREPARED as PREPARED
from pipelines.tasks.translation.config import check as check
from pipelines.tasks.translation.config import default_config as default_config
from pipelines.tasks.translation.config import settle as settle
from pipelines.tasks.translation.ctranslate2_folder import write_ctranslate2 as write_ctranslate2
from pipelines.tasks.translation.data import datasets as datasets
from pipelines.tasks.translation.data import leaks as leaks
from pipelines.tasks.translation.data import show_batch as show_batch
from pipelines.tasks.translation.evaluation import card as card
from pipelines.tasks.translation.evaluation import evaluate as evaluate
from pipelines.tasks.translation.evaluation import example as example
from pipelines.tasks.translation.evaluation import own_test as own_test
from pipelines.tasks.translation.evaluation import serving as serving
from pipelines.tasks.translation.evaluation import validation_scorer as validation_scorer
from pipelines.tasks.translation.objective import begin as begin
from pipelines.tasks.translation.objective import build as build
from pipelines.tasks.translation.objective import loss as loss
from pipelines.tasks.translation.objective import metrics as metrics
from pipelines.training.task import after_step as after_step
from pipelines.training.task import finish as finish
