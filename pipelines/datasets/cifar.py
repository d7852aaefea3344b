"""CIFAR-10 and CIFAR-100, from a file of one's own or fetched by Keras."""

from dataclasses import dataclass, field
from pathlib import Path

from pipelines import checks
from pipelines.datasets.base import ArrayDataset, Arrays
from pipelines.datasets.npz import NAMES, check_archive, read_archive
from pipelines.downloads import NO_ANSWER, check_answers, check_writable, keras_home

URLS = {
    10: "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    100: "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
}
# The names under which Keras keeps the archives; the first differs from the name in its URL.
ARCHIVES = {10: "cifar-10-batches-py.tar.gz", 100: "cifar-100-python.tar.gz"}
_TEN = "airplane automobile bird cat deer dog frog horse ship truck"
_FINE = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
    cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
    lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CLASS_NAMES = {10: tuple(_TEN.split()), 100: tuple(_FINE.split())}


@dataclass(frozen=True, kw_only=True)
class Cifar(ArrayDataset):
    """32x32 RGB photographs in 10 or 100 classes; 50,000 for training and 10,000 for testing when complete.

    classes: 10 or 100 (fine labels).
    data_dir: folder in which `cifar10.npz` or `cifar100.npz` is looked for before Keras's own folder.
    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """

    classes: int
    data_dir: str = field(metadata={"fingerprint": False})

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        checks.one_of("dataset.classes", self.classes, tuple(URLS))
        if not isinstance(self.data_dir, str) or not self.data_dir:
            raise ValueError(
                f"dataset.data_dir must name a folder, got {self.data_dir!r}: set dataset.data_dir=<folder>"
            )

    @property
    def default_name(self) -> str:
        """`cifar10` or `cifar100`."""
        return f"cifar{self.classes}"

    def preflight(self) -> None:
        """Check that the data is on this machine, or that its host answers."""
        if self._file.is_file():
            check_archive(self._file)
            return
        check_writable(keras_home())
        if self._archive.is_file():
            return
        try:
            check_answers(URLS[self.classes])
        except NO_ANSWER as error:
            raise self._unavailable(error) from error

    def _read(self) -> Arrays:
        arrays = read_archive(self._file) if self._file.is_file() else self._fetch()
        if len(arrays.class_names) != self.classes:
            raise ValueError(
                f"{self._file} must hold {self.classes} class names, got {len(arrays.class_names)}: "
                f"put the file of {self.default_name} there"
            )
        return arrays

    def _fetch(self) -> Arrays:
        """Let Keras find or download the archive and check its hash."""
        from tf_keras import datasets

        check_writable(keras_home())
        source = datasets.cifar10 if self.classes == 10 else datasets.cifar100
        try:
            # Left to itself, Keras ignores KERAS_HOME here.
            (x_train, y_train), (x_test, y_test) = source.load_data(cache_dir=str(keras_home()))
        except Exception as error:  # Keras raises bare Exception for a failed download.
            raise self._unavailable(error) from error
        return Arrays(
            x_train=x_train,
            y_train=y_train.reshape(-1),
            x_test=x_test,
            y_test=y_test.reshape(-1),
            class_names=CLASS_NAMES[self.classes],
        )

    def _unavailable(self, reason: Exception) -> ConnectionError:
        return ConnectionError(
            f"{self.default_name} must be in {self._file} or {self._archive}, or come from {URLS[self.classes]}, "
            f"but neither file is usable and the download failed ({reason}): "
            f"put {self._file.name} with arrays {', '.join(NAMES)} into {self.data_dir}, or the archive of "
            f"that address into {self._archive}, or set dataset.data_dir=<folder with {self._file.name}>"
        )

    @property
    def _file(self) -> Path:
        return Path(self.data_dir).expanduser() / f"{self.default_name}.npz"

    @property
    def _archive(self) -> Path:
        return keras_home() / "datasets" / ARCHIVES[self.classes]
