"""This process, with TensorFlow or without: its environment, seeds, garbage collection, locks and hardware."""

import atexit
import gc
import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pipelines.system import machine, stopwatch
from pipelines.system.locks import NoLocksError, lock
from pipelines.system.words import number_of

log = logging.getLogger("opscore")
# The same for all processes of a machine.
SHARED = Path("/tmp")

# What native libraries print although nothing is wrong: informational lines, that LiteRT uses its fast kernels, and the
# converter's settings. On a machine without a GPU driver, also that there is no CUDA.
GREETING = re.compile(
    r"I\d{4} |WARNING: All log messages before absl::InitializeLog|INFO: Created TensorFlow Lite XNNPACK delegate"
    r"|fully_quantize: |INFO: Applying \d+ TensorFlow Lite delegate"
)
NO_CUDA = re.compile(r"E\d{4} .*failed call to cuInit")
# Its lines are in the log file alone (conf/config.yaml).
native_log = logging.getLogger("native")


def relax_gc(*, after: int = 2_000_000) -> None:
    """Make garbage collections rare while this process lives, and skip the one at its end.

    TensorFlow, MLflow and the graphs of networks are millions of objects that stay. Traversing them again and again
    takes seconds of a cell (docs/lab-notes/cell-overhead.md). after: the number of new objects that starts a
    collection.
    """
    gc.set_threshold(after, 20, 100)
    atexit.register(gc.freeze)


@contextmanager
def no_garbage_collection(*, collect: bool = False) -> Iterator[None]:
    """Switch Python's garbage collector off for the block. collect: collect all garbage first."""
    was_enabled = gc.isenabled()
    if collect:
        gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def variables(*, onednn: bool, deterministic: bool) -> dict[str, str]:
    """The environment variables that TensorFlow reads when it is loaded, or computes for the first time.

    onednn: use oneDNN's kernels, which are off by default on CPUs without AVX512-VNNI
    (docs/maintainers/performance-training.md).
    """
    level = {"TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2")}
    wanted = {"TF_ENABLE_ONEDNN_OPTS": str(int(onednn)), "TF_USE_LEGACY_KERAS": "1"}
    return wanted | level | ({"TF_DETERMINISTIC_OPS": "1"} if deterministic else {})


def configure(*, onednn: bool, deterministic: bool) -> None:
    """Set TensorFlow's variables, for whoever loads it later in this process.

    Raises RuntimeError if TensorFlow was loaded in this process with another setting.
    """
    wanted = variables(onednn=onednn, deterministic=deterministic)
    if "tensorflow" in sys.modules:
        differing = [f"{key}={value}" for key, value in wanted.items() if os.environ.get(key) != value]
        if differing:
            raise RuntimeError(
                f"TensorFlow is loaded already and cannot take {', '.join(differing)}: "
                "run this cell in a process of its own"
            )
    os.environ.update(wanted)
    # TensorFlow would take all memory of a GPU when it starts one, and a second cell on it would fail.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")


def prepare(*, onednn: bool, deterministic: bool) -> None:
    """As `configure`, and load TensorFlow."""
    configure(onednn=onednn, deterministic=deterministic)
    with without_greetings():
        import tensorflow  # noqa: F401
        import tf_keras
    # ~/.keras/keras.json may say otherwise, for the networks of another program.
    tf_keras.backend.set_image_data_format("channels_last")
    tf_keras.backend.set_floatx("float32")
    # Its native code looks for GPUs at the first question, and prints that there are none.
    gpus()


@contextmanager
def without_greetings() -> Iterator[None]:
    """Keep what TensorFlow's and LiteRT's native code prints although nothing is wrong from the terminal.

    It writes to the file descriptor, some of it before it reads its log level. These lines go to the log file, all
    others are passed on at the end of the block, or of the process, if native code aborts it.
    """
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as caught, _shown_at_death(caught.fileno(), original):
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)
            caught.seek(0)
            for line in caught.read().decode(errors="replace").splitlines(keepends=True):
                if GREETING.match(line) or (NO_CUDA.match(line) and not machine.has_gpu_driver()):
                    native_log.info(line.rstrip())
                else:
                    sys.stderr.write(line)


@contextmanager
def _shown_at_death(caught: int, terminal: int) -> Iterator[None]:
    """Let a shell show what the file `caught` has, where this process dies within the block."""
    alive, mine = os.pipe()
    greetings = GREETING.pattern.replace(r"\d", "[0-9]")
    command = f"read -r ended || grep -Ev '^({greetings})' /proc/self/fd/{caught}"
    try:
        shell = subprocess.Popen(["/bin/sh", "-c", command], stdin=alive, stdout=terminal, pass_fds=[caught])
    except OSError:  # too many processes
        shell = None
    os.close(alive)
    try:
        yield
    finally:
        # Ctrl-C may have ended it.
        with suppress(BrokenPipeError):
            os.write(mine, b"\n")
        os.close(mine)
        if shell is not None:
            shell.wait()


def start_devices() -> None:
    """Let TensorFlow start its devices, which it does at the first operation else, without greetings."""
    import tensorflow as tf

    with without_greetings():
        tf.config.list_logical_devices()


def forget_networks() -> None:
    """Make Keras number layers from the start again, as if no network had been built; no-op where it is not loaded."""
    if "tf_keras" in sys.modules:
        import tf_keras

        tf_keras.backend.clear_session()


def seed_everything(seed: int, *, deterministic: bool) -> None:
    """Seed Python, NumPy and TensorFlow; with `deterministic`, two runs on one machine give the same bits."""
    import tensorflow as tf
    import tf_keras

    tf_keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()


@contextmanager
def machine_lock(name: str, *, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold a lock that only one process of this user on this machine can hold at a time.

    on_wait: called once if another process holds it. The system releases the lock of a process that dies.
    """
    try:
        shared = _shared_file(f"opscore-{os.getuid()}-{name}.lock")
    except OSError as error:
        log.warning("%s, so nothing else must be measured on this machine now", error)
        yield
        return
    with os.fdopen(shared, "w") as file:
        try:
            if not lock(file.fileno(), wait=False):
                on_wait()
                with stopwatch.part("wait"):
                    lock(file.fileno())
        except NoLocksError:
            log.warning("the temporary folder has no locks: nothing else must be measured on this machine now")
        yield


def _shared_file(name: str) -> int:
    """The descriptor of a file that every process of this user on this machine opens by that name.

    Not where TMPDIR is, which each may have set, unless the common folder refuses: another user may have made the file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(OSError):
        return os.open(SHARED / name, flags, 0o600)
    return os.open(Path(tempfile.gettempdir()) / name, flags, 0o600)


def gpus() -> list[str]:
    """Names of the GPUs that TensorFlow sees. Loads TensorFlow where there is a driver."""
    if "tensorflow" not in sys.modules and not machine.has_gpu_driver():
        return []
    import tensorflow as tf

    with without_greetings():
        devices = tf.config.list_physical_devices("GPU")
    return [tf.config.experimental.get_device_details(d).get("device_name", d.name) for d in devices]


@cache
def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU. A process that has not loaded it asks another one, where there is a driver."""
    if sys.modules.get("tensorflow"):
        return bool(gpus())
    if not machine.has_gpu_driver():
        return False
    count = "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))"
    asked = subprocess.run([sys.executable, "-c", count], capture_output=True, text=True, check=False)
    return asked.stdout.strip() not in ("", "0")


def hardware() -> dict[str, Any]:
    """The machine's hardware with its GPUs, and the versions that determine speed. May load TensorFlow."""
    return {**machine.hardware(), "gpus": gpus(), **versions()}


def hardware_name(description: dict[str, Any]) -> str:
    """`hardware()` in one line, to filter runs by."""
    gpus = ", ".join(description["gpus"]) or "no GPU"
    return f"{description['processor']}, {description['cores']} cores, {description['memory_gib']:.0f} GiB, {gpus}"


def trained_on() -> str:
    """This machine by name, with the threads that TensorFlow has if they are fewer than its cores."""
    threads = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    # TensorFlow ignores anything else.
    limit = int(threads) if threads.isdecimal() else 0
    return hardware_name(hardware()) + (f", {number_of(limit, 'thread')}" if 0 < limit < machine.cores() else "")


@cache
def versions() -> dict[str, str]:
    """Installed versions of the libraries that determine a result. Imports none of them."""
    return {name: metadata.version(name) for name in ("tensorflow", "tensorflow-model-optimization", "ai-edge-litert")}
