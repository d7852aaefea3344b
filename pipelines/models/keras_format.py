"""What a file with a whole Keras model holds, read without TensorFlow and without running anything from the file.

`.keras` is a zip archive with `config.json`, `metadata.json` and weights, since Keras 2.12 and in Keras 3; `.h5` is
HDF5 with the configuration as an attribute. Both kinds of Keras write both.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HDF5 = b"\x89HDF\r\n\x1a\n"
# Modules whose classes the file may name.
_TRUSTED = ("keras", "tf_keras", "tensorflow", "builtins")
_MODELS = ("Functional", "Model", "Sequential")
_WHOLE = "model.save('model.keras')"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer of the file. calls: how often the model calls it. package: where its class comes from, if not Keras."""

    name: str
    kind: str
    calls: int
    package: str
    config: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Content:
    """A file with a Keras model.

    suffix: `.keras` or `.h5` by its content, whatever its name. version: of the Keras that wrote it. layers: all, those
    of nested models included. image_shape: height, width and channels of the input; None where they are free. answers:
    number of outputs, None where the configuration does not show it. config: of the model, as Keras wrote it.
    """

    path: Path
    suffix: str
    version: str
    layers: tuple[Layer, ...]
    image_shape: tuple[int | None, int | None, int]
    answers: int | None
    config: Mapping[str, Any]

    @property
    def generation(self) -> int:
        """2 for Keras 2 (tf_keras), 3 for Keras 3."""
        return 3 if self.version.partition(".")[0] >= "3" else 2


def read(path: Path) -> Content:
    """Read and check a file.

    Raises FileNotFoundError, or ValueError where it is damaged, of another kind, or not a model from one image to one
    row of answers.
    """
    suffix, version, config = _opened(path)
    try:
        return _content(path, suffix, version, config)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(
            f"model.path must be a complete {suffix} file, got {path}, whose configuration is damaged or is none that "
            f"Keras writes ({type(error).__name__}: {error}): copy or write it again"
        ) from error


def _content(path: Path, suffix: str, version: str, config: Mapping[str, Any]) -> Content:
    config = _read(config)
    if config.get("class_name") not in _MODELS or foreign_package(config):
        raise ValueError(
            f"model.path must hold a Sequential or functional model, got the subclassed {config.get('class_name')} in "
            f"{path}: build it as keras.Model(inputs, outputs), copy its weights with set_weights and save that"
        )
    return Content(
        path=path,
        suffix=suffix,
        version=version,
        layers=tuple(_layers(config)),
        image_shape=_image_shape(config, path),
        answers=_answers(config),
        config=config,
    )


def _read(config: Any) -> Any:
    """The configuration without what only a training needs, with a Sequential model's layers where they are today.

    Before Keras 2.2.3, they were the whole configuration of the model.
    """
    if isinstance(config, list):
        return [_read(one) for one in config]
    if not isinstance(config, Mapping):
        return config
    found = {key: _read(value) for key, value in config.items() if key != "compile_config"}
    if found.get("class_name") == "Sequential" and isinstance(found.get("config"), list):
        found["config"] = {"name": "sequential", "layers": found["config"]}
    return found


def _opened(path: Path) -> tuple[str, str, dict[str, Any]]:
    """The kind of the file, the version of Keras and the model's configuration."""
    if path.is_dir():
        raise ValueError(_folder(path))
    if not path.is_file():
        raise FileNotFoundError(f"model.path must be a file that exists, got {path.absolute()}: correct the path")
    with path.open("rb") as file:
        start = file.read(8)
    if start == HDF5:
        return ".h5", *_from_hdf5(path)
    if path.suffix == ".keras" or zipfile.is_zipfile(path):
        return ".keras", *_from_zip(path)
    raise ValueError(
        f"model.path must be a whole Keras model, .keras or .h5, got {path}, which is neither or is damaged: write it "
        f"with {_WHOLE}"
    )


def _from_zip(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
            if broken is None:
                metadata, config = (json.loads(archive.read(f"{name}.json")) for name in ("metadata", "config"))
                return str(metadata["keras_version"]), config
    except (zipfile.BadZipFile, EOFError, OSError, TypeError, ValueError, NotImplementedError):
        pass
    except KeyError:
        raise ValueError(
            f"model.path must be a whole Keras model, got {path}, a zip archive of another kind: write the model with "
            f"{_WHOLE}"
        ) from None
    raise ValueError(f"model.path must be a complete .keras file, got {path}, which is damaged: copy or write it again")


def _from_hdf5(path: Path) -> tuple[str, dict[str, Any]]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            attributes, groups = dict(file.attrs), set(file)
    except (OSError, RuntimeError):
        raise ValueError(
            f"model.path must be a complete .h5 file, got {path}, which is damaged: copy or write it again"
        ) from None
    config = attributes.get("model_config")
    if config is None:
        what = "the state of an optimizer" if groups and groups <= {"optimizer", "optimizer_weights"} else "weights"
        raise ValueError(
            f"model.path must be a whole model, got {path}, which holds {what} only: build the model in Python, load "
            f"its weights with load_weights and write it with {_WHOLE}"
        )
    version = attributes.get("keras_version", "2")
    text, number = (one.decode() if isinstance(one, bytes) else str(one) for one in (config, version))
    return number, json.loads(text)


def _folder(path: Path) -> str:
    if (path / "saved_model.pb").exists():
        # Keras 2 alone reads one back as a model.
        program = f"import tf_keras; tf_keras.models.load_model({str(path)!r}).save({f'{path}.keras'!r})"
        return (
            f"model.path must be a .keras or .h5 file, got the SavedModel {path}: if Keras 2 wrote it, convert it with "
            f'`python -c "{program}"`; else write the model with {_WHOLE} where it was built'
        )
    return f"model.path must be a .keras or .h5 file, got the folder {path}: name the file in it"


def _layers(config: Mapping[str, Any]) -> Iterator[Layer]:
    """All layers, those of nested models instead of the models themselves."""
    for entry in config["config"]["layers"]:
        own, kind = entry["config"], str(entry["class_name"])
        name = str(entry.get("name") or own.get("name") or kind)
        if isinstance(own, dict) and "layers" in own:
            if package := foreign_package(entry):
                yield Layer(name=name, kind=kind, calls=1, package=package, config={})
            yield from _layers(entry)
            continue
        # Keras 2 writes a wrapped layer, such as TimeDistributed's, in its configuration.
        inner = own.get("layer") if isinstance(own, dict) else None
        if isinstance(inner, dict) and "class_name" in inner:
            yield from _layers({"config": {"layers": [inner]}})
        calls = max(1, len(entry.get("inbound_nodes") or ()))
        kind = kind.replace(">", ".").rpartition(".")[2]
        yield Layer(name=name, kind=kind, calls=calls, package=foreign_package(entry), config=own)


def foreign_package(entry: Mapping[str, Any]) -> str:
    """The module or package of a class that is not Keras's; empty for Keras's own."""
    module, kind = entry.get("module"), str(entry["class_name"])
    if module and module.partition(".")[0] not in _TRUSTED:
        return str(module)
    registered = str(entry.get("registered_name") or "") if not module else ""
    return next((one.rpartition(">")[0] for one in (kind, registered) if ">" in one), "")


def _image_shape(config: Mapping[str, Any], path: Path) -> tuple[int | None, int | None, int]:
    shapes = _input_shapes(config)
    if len(shapes) != 1:
        raise ValueError(
            f"model.path must hold a model with one input, got {len(shapes)} in {path}: save the part that takes images"
        )
    outputs = 1 if "output_layers" not in config["config"] else len(_names(config["config"]["output_layers"]))
    if outputs != 1:
        raise ValueError(
            f"model.path must hold a model with one output, got {outputs} in {path}: save keras.Model(inputs, output) "
            "with the output to classify by"
        )
    shape = shapes[0]
    if shape is None:
        raise ValueError(
            f"model.path must hold a model that was built, got {path} without an input shape: begin it with "
            "keras.Input((height, width, channels)) and save it again"
        )
    if len(shape) != 4 or shape[3] not in (1, 3):
        raise ValueError(
            f"model.path must hold a model of images (height, width, 1 or 3 channels), got the input shape "
            f"{tuple(shape[1:])} in {path}: opscore takes image classifiers with channels last"
        )
    return shape[1], shape[2], int(shape[3])


def _input_shapes(config: Mapping[str, Any]) -> list[Any]:
    """The input shapes, with the batch; None for one that is not known."""
    own = config["config"]
    entries = own["layers"]
    if "input_layers" in own:
        by_name = {entry.get("name") or entry["config"]["name"]: entry for entry in entries}
        return [_shape(by_name[name]["config"]) for name in _names(own["input_layers"])]
    first = entries[0] if entries else {"config": {}}
    nested = _input_shapes(first)[0] if isinstance(first["config"], dict) and "layers" in first["config"] else None
    return [_shape(first["config"]) or nested or own.get("build_input_shape")]


def _shape(config: Mapping[str, Any]) -> Any:
    return config.get("batch_shape") or config.get("batch_input_shape")


def _names(ends: Any) -> list[str]:
    """Names of a model's input or output layers, which Keras writes in several ways."""
    if isinstance(ends, Mapping):
        return [name for one in ends.values() for name in _names(one)]
    if ends and isinstance(ends[0], str):
        return [ends[0]]
    return [name for one in ends for name in _names(one)]


def _answers(config: Mapping[str, Any]) -> int | None:
    """The units of the last dense layer, if only activations and dropout follow it."""
    own = config["config"]
    entries = {entry.get("name") or entry["config"].get("name"): entry for entry in own["layers"]}
    if "output_layers" in own:
        entry = entries[_names(own["output_layers"])[0]]
    else:
        entry = next((one for one in reversed(own["layers"]) if one["class_name"] not in _AFTER_LOGITS), None)
        return _units(entry) if entry else None
    while entry["class_name"] in _AFTER_LOGITS:
        sources = list(_sources(entry.get("inbound_nodes")))
        if len(sources) != 1:
            return None
        entry = entries[sources[0]]
    return _units(entry)


_AFTER_LOGITS = ("Activation", "Softmax", "Dropout")


def _units(entry: Mapping[str, Any]) -> int | None:
    if "layers" in entry["config"]:
        return _answers(entry)
    return entry["config"].get("units") if entry["class_name"] == "Dense" else None


def _sources(nodes: Any) -> Iterator[str]:
    """Names of the layers whose outputs a layer takes, in the forms of Keras 2 and 3."""
    if isinstance(nodes, Mapping):
        if nodes.get("class_name") == "__keras_tensor__":
            yield nodes["config"]["keras_history"][0]
        else:
            for value in nodes.values():
                yield from _sources(value)
    elif isinstance(nodes, list):
        if len(nodes) >= 3 and isinstance(nodes[0], str) and isinstance(nodes[1], int):
            yield nodes[0]
        else:
            for node in nodes:
                yield from _sources(node)
