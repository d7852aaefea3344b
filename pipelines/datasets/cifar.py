"""CIFAR-10 and CIFAR-100, from a local file, from Keras's folder, or downloaded into it."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.datasets import cifar_batches
from pipelines.datasets.arrays import ArrayDataset, Arrays
from pipelines.datasets.cifar_batches import PUBLISHED, Published, check_hash
from pipelines.datasets.npz import NAMES, check_archive, read_archive
from pipelines.system import checks
from pipelines.system.downloads import UNREACHABLE, check_reachable, check_writable, download, keras_home
from pipelines.system.places import exists, expanded

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
    data_dir: folder of `cifar10.npz` or `cifar100.npz`, or of the published archive, unpacked or not; Keras's folder is
    searched next.
    url, sha256: of the archive on a mirror; None for the author's.
    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """

    classes: int
    data_dir: str = field(metadata={"fingerprint": False})
    url: str | None = field(default=None, metadata={"fingerprint": False})
    sha256: str | None = field(default=None, metadata={"fingerprint": False})

    def __post_init__(self) -> None:
        checks.one_of("dataset.classes", self.classes, tuple(PUBLISHED))
        super().__post_init__()
        if not isinstance(self.data_dir, str) or not self.data_dir:
            raise ValueError(
                f"dataset.data_dir must name a folder, got {self.data_dir!r}: set for example dataset.data_dir=data"
            )
        if self.url is not None and not re.match(r"https?://.", str(self.url)):
            raise ValueError(
                f"dataset.url must be an address that begins with http:// or https://, got {self.url!r}: "
                "set dataset.url=null for the author's"
            )
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", str(self.sha256)):
            raise ValueError(
                f"dataset.sha256 must be 64 hexadecimal digits, got {self.sha256!r}: "
                "set dataset.sha256=null for the author's archive"
            )

    @property
    def default_name(self) -> str:
        """`cifar10` or `cifar100`."""
        return f"cifar{self.classes}"

    def preflight(self) -> None:
        """Check that the data is on this machine, or that its server answers."""
        if self._file.is_file():
            check_archive(self._file)
        elif self._found() is None:
            check_writable(keras_home())
            try:
                check_reachable(self._url)
            except UNREACHABLE as error:
                raise self._unavailable(error) from error

    def read_arrays(self) -> Arrays:
        """The arrays of the local file, else those of the archive, which is downloaded if it is not there."""
        if self._file.is_file():
            arrays = read_archive(self._file)
            if len(arrays.class_names) != self.classes:
                raise ValueError(
                    f"{self._file} must hold {self.classes} class names, got {len(arrays.class_names)}: "
                    f"put the file of {self.default_name} there"
                )
            return arrays
        source = self._found()
        if source is None:
            source = self._fetch()
        elif source.is_file():
            check_hash(source, self._sha256)
        x_train, y_train, x_test, y_test = cifar_batches.read(source, self._published)
        names = CLASS_NAMES[self.classes]
        return Arrays(x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test, class_names=names)

    def _found(self) -> Path | None:
        """The archive, or the folder unpacked from it, on this machine."""
        published, cache = self._published, keras_home() / "datasets"
        places = [
            expanded(self.data_dir) / published.file,
            expanded(self.data_dir) / published.folder,
            *(cache / name for name in (*published.keras, published.file)),
            cache / published.folder,
            cache / f"{published.folder}-target" / published.folder,
        ]
        return next((place for place in places if exists(place)), None)

    def _fetch(self) -> Path:
        """Download the archive to Keras's folder."""
        check_writable(keras_home())
        try:
            return download(self._url, self._archive, sha256=self._sha256)
        except UNREACHABLE as error:
            raise self._unavailable(error) from error

    def _unavailable(self, reason: Exception) -> ConnectionError:
        return ConnectionError(
            f"{self.default_name} must be in {self.data_dir} or {self._archive}, or come from {self._url}, which "
            f"failed ({reason}): put the archive of that address into {self._archive}, or {self._file.name} with "
            f"arrays {', '.join(NAMES)} into {self.data_dir}, or set dataset.data_dir to a folder with one of them"
        )

    @property
    def _published(self) -> Published:
        return PUBLISHED[self.classes]

    @property
    def _url(self) -> str:
        return self.url or self._published.url

    @property
    def _sha256(self) -> str:
        return self.sha256 or self._published.sha256

    @property
    def _file(self) -> Path:
        return expanded(self.data_dir) / f"{self.default_name}.npz"

    @property
    def _archive(self) -> Path:
        return keras_home() / "datasets" / self._published.keras[0]
