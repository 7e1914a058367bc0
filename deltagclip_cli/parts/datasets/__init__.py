"""Data sets, and what may be done to their images while a model trains.

A loader is called as ``loader(root, image_size, **options)``, with the folder of all data sets and
the side in pixels that the model wants, and returns a ``datasets.dataset.Dataset``: everything in
memory, images as they were stored (uint8), which are resized when batches are made. One of texts
returns a ``datasets.texts.TextDataset``, which the tokenizer of a model turns into one. With
``datasets.dataset.described`` a loader says how large its data set is before it is loaded, and
which files it reads. One that can fetch them takes ``download``, which is False on nodes without a
network and cannot be set by a spec; nor can ``official``, which asks one for a validation split
of the data's own that it reads on demand.

An augmentation is made as ``augmentation(size, **options)``, where ``size`` is the side in pixels
of the images that the model gets, and called on a batch.
"""

from __future__ import annotations

from deltagclip_cli.core import Catalogue

TRIED = {
    "try:grammar": "deltagclip_cli.trying.problems:grammar",
    "try:measurements": "deltagclip_cli.trying.problems:measurements",
    "try:shapes": "deltagclip_cli.trying.problems:shapes",
}
"""Those of the problems of ``deltagclip try``."""

TABLE = Catalogue(
    "data set",
    {
        "cifar10": "deltagclip_cli.parts.datasets.torchvision_sets:cifar10",
        "cifar100": "deltagclip_cli.parts.datasets.torchvision_sets:cifar100",
        "csv": "deltagclip_cli.parts.datasets.tabular:csv",
        "emotion": "deltagclip_cli.parts.datasets.emotion:emotion",
        "fashion_mnist": "deltagclip_cli.parts.datasets.torchvision_sets:fashion_mnist",
        "huggingface": "deltagclip_cli.parts.datasets.huggingface:huggingface",
        "image_folder": "deltagclip_cli.parts.datasets.image_folder:image_folder",
        "mnist": "deltagclip_cli.parts.datasets.torchvision_sets:mnist",
        "npz": "deltagclip_cli.parts.datasets.arrays:npz",
        "sphere": "deltagclip_cli.parts.datasets.sphere:sphere",
        "synthetic": "deltagclip_cli.parts.datasets.synthetic:synthetic",
        "texts": "deltagclip_cli.parts.datasets.labelled_texts:texts",
        "tokens": "deltagclip_cli.parts.datasets.tokens:tokens",
    },
    supplied=frozenset({"root", "image_size", "download", "official"}),
    offered=frozenset({"folder", "download"}),
    unlisted={"try": lambda: TRIED},
    bounds={
        "csv.data_seed": {"ge": 0},
        "huggingface.data_seed": {"ge": 0},
        "huggingface.max_length": {"ge": 1},
        "emotion.max_length": {"ge": 3},
        "image_folder.data_seed": {"ge": 0},
        "npz.data_seed": {"ge": 0},
        "sphere.classes": {"ge": 2},
        "sphere.data_seed": {"ge": 0},
        "sphere.dimension": {"ge": 2},
        "sphere.points": {"ge": 1},
        "sphere.radius": {"gt": 0},
        "sphere.test": {"ge": 1},
        "synthetic.channels": {"ge": 1},
        "synthetic.classes": {"ge": 2},
        "synthetic.data_seed": {"ge": 0},
        "synthetic.noise": {"ge": 0, "le": 1},
        "synthetic.size": {"ge": 1},
        "synthetic.test": {"ge": 1},
        "synthetic.train": {"ge": 1},
        "texts.data_seed": {"ge": 0},
        "texts.max_length": {"ge": 1},
        "tokens.vocabulary": {"ge": 1},
        "tokens.window": {"ge": 1},
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
    bounds={
        "flip.probability": {"ge": 0, "le": 1},
        "random_crop.padding": {"ge": 0, "le": 1_000},
    },
)
