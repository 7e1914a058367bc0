"""Data sets, and what may be done to their images while a model trains.

A loader is called as ``loader(root, image_size, **options)`` and returns a
``datasets.dataset.Dataset``: everything in memory, images as they were stored
(uint8). One of texts returns a ``datasets.texts.TextDataset``, which the
tokenizer of a model turns into one. A loader says how large its data set is before it is loaded,
with ``datasets.dataset.outlined``; one that reads files says which, with
``datasets.staging.reading``, and one that can fetch them takes ``download``. An
augmentation is made as ``augmentation(size, **options)``, where ``size`` is the side in pixels of
the images that the model gets, and called on a batch.
"""

from __future__ import annotations

from deltagclip_cli.core import Catalogue

TABLE = Catalogue(
    "data set",
    {
        "cifar10": "deltagclip_cli.parts.datasets.torchvision_sets:cifar10",
        "cifar100": "deltagclip_cli.parts.datasets.torchvision_sets:cifar100",
        "emotion": "deltagclip_cli.parts.datasets.emotion:emotion",
        "fashion_mnist": "deltagclip_cli.parts.datasets.torchvision_sets:fashion_mnist",
        "image_folder": "deltagclip_cli.parts.datasets.image_folder:image_folder",
        "mnist": "deltagclip_cli.parts.datasets.torchvision_sets:mnist",
        "sphere": "deltagclip_cli.parts.datasets.sphere:sphere",
        "synthetic": "deltagclip_cli.parts.datasets.synthetic:synthetic",
    },
    supplied=frozenset({"root", "image_size", "download"}),
    bounds={
        "channels": {"ge": 1},
        "classes": {"ge": 2},
        "data_seed": {"ge": 0},
        "dimension": {"ge": 2},
        "max_length": {"ge": 3},
        "noise": {"ge": 0, "le": 1},
        "points": {"ge": 1},
        "radius": {"gt": 0},
        "size": {"ge": 1},
        "test": {"ge": 1},
        "train": {"ge": 1},
    },
)

AUGMENTATIONS = Catalogue(
    "augmentation",
    {
        "flip": "deltagclip_cli.parts.datasets.augment:Flip",
        "random_crop": "deltagclip_cli.parts.datasets.augment:RandomCrop",
        "random_resized_crop": "deltagclip_cli.parts.datasets.augment:RandomResizedCrop",
    },
    supplied=frozenset({"size"}),
    bounds={"padding": {"ge": 0, "le": 1_000}, "probability": {"ge": 0, "le": 1}},
)
