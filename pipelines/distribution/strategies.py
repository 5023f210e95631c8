"""Which devices, of which machines, share each batch: strategies by name."""

import json
import os
import re
import shutil
import signal

import tensorflow as tf

NAMES = ("auto", "one", "mirrored", "multiworker", "tpu")


def make(name: str = "auto") -> tf.distribute.Strategy:
    """Makes a strategy. With several processes, call this before anything else of TensorFlow.

    Args:
        name: `one` device; `mirrored` over all GPUs of this machine, or `mirrored:N` over the
            first N, or over N parts of the processor where there is no GPU; `multiworker`, over the
            processes that `TF_CONFIG` or Slurm names; `tpu`; or `auto`, the one that fits.

    Returns:
        `tf.distribute.Strategy`.

    Raises:
        ValueError: for another name, or when what it asks for is not there.
    """
    base, colon, count = name.partition(":")
    if base not in NAMES or (colon and not (base == "mirrored" and count.isdecimal())):
        raise ValueError(
            f"Expected --strategy to be one of {', '.join(NAMES)} or mirrored:N, received {name!r}."
        )
    makers = {"mirrored": lambda: _mirrored(int(count or 0)), "tpu": _tpu}
    makers |= {"multiworker": _multiworker, "one": tf.distribute.get_strategy}
    return makers[find() if base == "auto" else base]()


def find() -> str:
    """Returns the name of the strategy that fits the environment and the machine."""
    if "TF_CONFIG" in os.environ:
        if sum(map(len, _read_cluster(os.environ["TF_CONFIG"]).values())) > 1:
            return "multiworker"
    elif int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        return "multiworker"
    if os.environ.get("TPU_NAME"):
        return "tpu"
    return "mirrored" if len(tf.config.list_physical_devices("GPU")) > 1 else "one"


def _mirrored(count):
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus and count > 1:
        (processor,) = tf.config.list_physical_devices("CPU")
        parts = [tf.config.LogicalDeviceConfiguration()] * count
        tf.config.set_logical_device_configuration(processor, parts)
        # The collective operations of two such strategies would answer for each other.
        cross_device = tf.distribute.ReductionToOneDevice()
        return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)], cross_device)
    count = count or len(gpus)
    if not 2 <= count <= len(gpus):
        raise ValueError(
            f"Expected at least {max(count, 2)} GPUs for --strategy=mirrored, found {len(gpus)}; "
            "without any, --strategy=mirrored:N shares batches among N parts of the processor."
        )
    return tf.distribute.MirroredStrategy([f"GPU:{i}" for i in range(count)])


def _multiworker():
    text = os.environ.get("TF_CONFIG")
    if text is None and "SLURM_STEP_NUM_TASKS" not in os.environ:
        raise ValueError(
            "Expected the environment variable TF_CONFIG, or to be started by srun, with "
            "--strategy=multiworker; for several processes on one machine give --local_workers=N."
        )
    if text is None:
        text = os.environ["TF_CONFIG"] = slurm_cluster()
    if not any(_read_cluster(text).values()):
        raise ValueError(
            "Expected TF_CONFIG to name the processes of --strategy=multiworker under 'cluster', "
            f"received {text!r}; one process alone trains with --strategy=auto."
        )
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        raise ValueError(f"The processes of {text} do not find each other: {error}") from error
    # It has let TensorFlow swallow SIGTERM, which must end a program that does not train yet.
    signal.signal(signal.SIGTERM, on_sigterm)
    return strategy


def _read_cluster(text):
    """Reads the addresses of the processes by their task type from the text of `TF_CONFIG`."""
    try:
        config = json.loads(text)
        cluster, task = config.get("cluster", {}), config.get("task", {})
        addresses = [address for hosts in cluster.values() for address in hosts]
        is_right = all(isinstance(hosts, list) for hosts in cluster.values())
        is_right &= all(isinstance(address, str) for address in addresses)
        is_right &= set(cluster) <= {"chief", "worker"} and len(set(addresses)) == len(addresses)
        if addresses:
            is_right &= 0 <= int(task["index"]) < len(cluster[task["type"]])
    except (ValueError, TypeError, KeyError, AttributeError):
        is_right = False
    if not is_right:
        raise ValueError(
            "Expected TF_CONFIG as {'cluster': {'worker': ['host:port', ...]}, 'task': "
            f"{{'type': 'worker', 'index': 0}}}}, received {text!r}."
        )
    return cluster


def slurm_cluster() -> str:
    """Describes the processes that Slurm has started for this job step, as `TF_CONFIG` does."""
    options = {}
    if shutil.which("nvidia-smi") is None:
        # The resolver counts processes by GPUs; without any, each is said to have one.
        counts = re.sub(r"\(x\d+\)", "", os.environ["SLURM_STEP_TASKS_PER_NODE"]).split(",")
        options = {"gpus_per_node": max(map(int, counts)), "gpus_per_task": 1}
        options["auto_set_gpu"] = False
    resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(**options)
    cluster = resolver.cluster_spec().as_dict()
    task_type, index = resolver.get_task_info()
    return json.dumps({"cluster": cluster, "task": {"type": task_type, "index": index}})


def _tpu():
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            os.environ.get("TPU_NAME", "local")
        )
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, ImportError, tf.errors.OpError) as error:
        raise ValueError(f"Expected a TPU for --strategy=tpu, found none: {error}") from error
    return tf.distribute.TPUStrategy(resolver)
